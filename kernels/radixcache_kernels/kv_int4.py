"""Loading and storing the int4 format of formats.py inside a kernel."""

import triton
import triton.language as tl

from radixcache_kernels.formats import KEY_BITS, VALUE_BITS, group_of
from radixcache_kernels.jit import jit

KEY_LEVELS, VALUE_LEVELS = tl.constexpr(2.0**KEY_BITS - 1), tl.constexpr(2.0**VALUE_BITS - 1)


int4_group = triton.constexpr_function(group_of)


@jit
def _widen(words: tl.tensor) -> tl.tensor:
    return (words.to(tl.int32) << 16).to(tl.float32, bitcast=True)


@jit
def _down(x: tl.tensor) -> tl.tensor:
    """The int32 bits of float32 x rounded down to what has only zeros in its lower half."""
    bits = x.to(tl.int32, bitcast=True)
    return tl.where(bits < 0, bits + 0xFFFF, bits) & -0x10000


@jit
def _up(x: tl.tensor) -> tl.tensor:
    """The same, rounded up, of x >= 0."""
    return (x.to(tl.int32, bitcast=True) + 0xFFFF) & -0x10000


@jit
def _load_part(
    pointer: tl.tensor,
    places: tl.tensor,
    used: tl.tensor,
    stride: tl.constexpr,
    pad: tl.constexpr,
    count: tl.constexpr,
    keys: tl.constexpr,
) -> tl.tensor:
    """int32, `count` elements for each token, zero beyond and where it is not used.

    [pad, tile_keys] for keys, [tile_keys, pad] for values: each as its product takes it.
    """
    index = tl.arange(0, pad)
    if keys:
        mask = (index[:, None] < count) & used[None, :]
        offsets = places[None, :] * stride + index[:, None]
    else:
        mask = used[:, None] & (index[None, :] < count)
        offsets = places[:, None] * stride + index[None, :]
    return tl.load(pointer + offsets, mask=mask, other=0).to(tl.int32)


@jit
def _unpack(
    words: tl.tensor,
    bits: tl.constexpr,
    count: tl.constexpr,
    pad: tl.constexpr,
    tile_keys: tl.constexpr,
    keys: tl.constexpr,
) -> tl.tensor:
    """Words of `count` fields of `bits` bits, low ones first: [pad, tile_keys], of values transposed."""
    shifts = tl.arange(0, count) * bits
    if keys:
        fields = tl.reshape(words[:, None, :] >> shifts[None, :, None], [pad, tile_keys])
    else:
        fields = tl.reshape(words[:, :, None] >> shifts[None, None, :], [tile_keys, pad])
    return fields & ((1 << bits) - 1)


@jit
def _repeat(
    x: tl.tensor, count: tl.constexpr, pad: tl.constexpr, tile_keys: tl.constexpr, keys: tl.constexpr
) -> tl.tensor:
    """Each number of x for `count` channels: [pad, tile_keys], of values transposed."""
    if keys:
        repeated = tl.broadcast_to(x[:, None, :], [pad // count, count, tile_keys])
        result = tl.reshape(repeated, [pad, tile_keys])
    else:
        repeated = tl.broadcast_to(x[:, :, None], [tile_keys, pad // count, count])
        result = tl.reshape(repeated, [tile_keys, pad])
    return result


@jit
def load_int4(
    pool: tl.tensor,
    side: tl.tensor,
    slots: tl.tensor,
    used: tl.tensor,
    kv_head: tl.tensor,
    kv_heads: tl.constexpr,
    head_dim: tl.constexpr,
    head_pad: tl.constexpr,
    keys: tl.constexpr,
) -> tl.tensor:
    """float32 of a tile of tokens, zero if not used: [head_pad, tile_keys], of values transposed."""
    tile_keys: tl.constexpr = slots.shape[0]
    group: tl.constexpr = int4_group(head_dim)
    groups: tl.constexpr = head_dim // group
    width: tl.constexpr = 2 * groups + (head_dim // 8 if keys else 0)
    places = slots * kv_heads + kv_head
    low = _load_part(pool, places, used, head_dim // 2, head_pad // 2, head_dim // 2, keys)
    codes = _unpack(low, 4, 2, head_pad, tile_keys, keys)
    if keys:
        high = _load_part(side + 2 * groups, places, used, width, head_pad // 8, head_dim // 8, keys)
        codes = codes | (_unpack(high, 2, 8, head_pad, tile_keys, keys) << 4)
    zeros = _widen(_load_part(side, places, used, width, head_pad // group, groups, keys))
    steps = _widen(_load_part(side + groups, places, used, width, head_pad // group, groups, keys))
    zeros = _repeat(zeros, group, head_pad, tile_keys, keys)
    return codes.to(tl.float32) * _repeat(steps, group, head_pad, tile_keys, keys) + zeros


@jit
def store_int4(
    x: tl.tensor,
    pool: tl.tensor,
    side: tl.tensor,
    slot: tl.tensor,
    heads: tl.tensor,
    live: tl.tensor,
    kv_heads: tl.constexpr,
    head_dim: tl.constexpr,
    head_pad: tl.constexpr,
    tile_heads: tl.constexpr,
    keys: tl.constexpr,
) -> None:
    """Quantise float32 x [tile_heads, head_pad] of one token and store it; rows that are not live are not.

    A group that is not finite gets an infinite step, so that it is read as something not finite.
    """
    group: tl.constexpr = int4_group(head_dim)
    groups: tl.constexpr = head_dim // group
    group_pad: tl.constexpr = head_pad // group
    width: tl.constexpr = 2 * groups + (head_dim // 8 if keys else 0)
    levels: tl.constexpr = KEY_LEVELS if keys else VALUE_LEVELS
    parts = tl.reshape(x, [tile_heads, group_pad, group])
    finite = tl.abs(parts) < float("inf")
    parts = tl.where(finite, parts, 0.0)
    zero_bits = _down(tl.min(parts, 2))
    zeros = zero_bits.to(tl.float32, bitcast=True)
    span = tl.max(parts, 2) - zeros
    steps = tl.div_rn(span, tl.full(span.shape, levels, tl.float32))
    step_bits = _up(tl.where(tl.min(finite.to(tl.int32), 2) > 0, steps, float("inf")))
    steps = step_bits.to(tl.float32, bitcast=True)
    divisors = tl.broadcast_to(tl.where(steps > 0.0, steps, 1.0)[:, :, None], parts.shape)
    codes = tl.div_rn(parts - zeros[:, :, None], divisors)
    codes = ((tl.minimum(codes, levels) + 12582912.0) - 12582912.0).to(tl.int32)

    places = slot * kv_heads + heads
    index = tl.arange(0, group_pad)
    mask = live[:, None] & (index[None, :] < groups)
    targets = side + places[:, None] * width + index[None, :]
    tl.store(targets, (zero_bits >> 16).to(tl.int16), mask=mask)
    tl.store(targets + groups, (step_bits >> 16).to(tl.int16), mask=mask)
    pairs = tl.reshape(codes & 15, [tile_heads, head_pad // 2, 2]) << (tl.arange(0, 2) * 4)[None, None, :]
    index = tl.arange(0, head_pad // 2)
    mask = live[:, None] & (index[None, :] < head_dim // 2)
    packed = tl.sum(pairs, 2).to(tl.uint8)
    tl.store(pool + places[:, None] * (head_dim // 2) + index[None, :], packed, mask=mask)
    if keys:
        eights = (
            tl.reshape(codes >> 4, [tile_heads, head_pad // 8, 8]) << (tl.arange(0, 8) * 2)[None, None, :]
        )
        index = tl.arange(0, head_pad // 8)
        mask = live[:, None] & (index[None, :] < head_dim // 8)
        words = tl.sum(eights, 2).to(tl.int16)
        tl.store(side + places[:, None] * width + 2 * groups + index[None, :], words, mask=mask)
