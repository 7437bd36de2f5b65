"""Quantising new keys and values into the pool, codes and what scales them, in one launch."""

import triton
import triton.language as tl
from torch import Tensor

from radixcache_kernels.formats import FULL_SCALE, format_of
from radixcache_kernels.jit import LAUNCH_OPTIONS, jit
from radixcache_kernels.kv_int4 import store_int4

TILE_ELEMENTS = 2048


@jit
def _nearest_integer(x: tl.tensor) -> tl.tensor:
    """Ties to even, for |x| < 2**22: a sum with 1.5 * 2**23 has no room for a fraction."""
    return (x + 12582912.0) - 12582912.0


@jit
def _nearest_e4m3(x: tl.tensor) -> tl.tensor:
    """The nearest number of E4M3 to each x in -448..448, ties to even, in float32.

    Casting alone would do on a GPU; the interpreter of Triton 3.9 casts 126 to 64.
    """
    bits = x.to(tl.int32, bitcast=True)
    normal = ((bits + 0x7FFFF + ((bits >> 20) & 1)) & -0x100000).to(tl.float32, bitcast=True)
    subnormal = (x + 24576.0) - 24576.0  # multiples of 2**-9
    return tl.where(tl.abs(x) < 0.015625, subnormal, normal)


@jit
def encode(x: tl.tensor, full_scale: tl.constexpr, kv_format: tl.constexpr) -> tl.tuple:
    """Codes, as float32 [n, head_pad], and scales [n] of the float32 rows of x.

    A row that is not finite gets an infinite scale, so that it is read as something not finite.
    """
    finite = tl.abs(x) < float("inf")
    top = tl.max(tl.where(finite, tl.abs(x), float("inf")), 1)
    scale = tl.div_rn(top, tl.full(top.shape, full_scale, tl.float32))
    step = tl.broadcast_to(tl.where(scale > 0.0, scale, 1.0)[:, None], x.shape)
    codes = tl.minimum(tl.maximum(tl.div_rn(tl.where(finite, x, 0.0), step), -full_scale), full_scale)
    codes = _nearest_integer(codes) if kv_format == "int8" else _nearest_e4m3(codes)
    return codes, scale


@jit
def quantise_kernel(
    key: tl.tensor,
    value: tl.tensor,
    k_pool: tl.tensor,
    v_pool: tl.tensor,
    k_scales: tl.tensor,
    v_scales: tl.tensor,
    slots: tl.tensor,
    key_row_stride: tl.tensor,
    key_head_stride: tl.tensor,
    value_row_stride: tl.tensor,
    value_head_stride: tl.tensor,
    kv_heads: tl.constexpr,
    head_dim: tl.constexpr,
    head_pad: tl.constexpr,
    tile_heads: tl.constexpr,
    full_scale: tl.constexpr,
    kv_format: tl.constexpr,
) -> None:
    """Grid (rows, tiles of heads)."""
    row = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + row).to(tl.int64)
    if slot < 0:
        return
    heads = tl.program_id(1) * tile_heads + tl.arange(0, tile_heads)
    dims = tl.arange(0, head_pad)
    live = heads < kv_heads
    mask = live[:, None] & (dims[None, :] < head_dim)
    places = slot * kv_heads + heads
    targets = places[:, None] * head_dim + dims[None, :]
    k_from = key + row * key_row_stride + heads[:, None] * key_head_stride + dims[None, :]
    k = tl.load(k_from, mask=mask, other=0.0).to(tl.float32)
    v_from = value + row * value_row_stride + heads[:, None] * value_head_stride + dims[None, :]
    v = tl.load(v_from, mask=mask, other=0.0).to(tl.float32)
    if kv_format == "int4":
        store_int4(k, k_pool, k_scales, slot, heads, live, kv_heads, head_dim, head_pad, tile_heads, True)
        store_int4(v, v_pool, v_scales, slot, heads, live, kv_heads, head_dim, head_pad, tile_heads, False)
    else:
        k_codes, k_scale = encode(k, full_scale, kv_format)
        tl.store(k_pool + targets, k_codes.to(k_pool.dtype.element_ty), mask=mask)
        tl.store(k_scales + places, k_scale, mask=live)
        v_codes, v_scale = encode(v, full_scale, kv_format)
        tl.store(v_pool + targets, v_codes.to(v_pool.dtype.element_ty), mask=mask)
        tl.store(v_scales + places, v_scale, mask=live)


def quantise_kv(
    key: Tensor,
    value: Tensor,
    k_pool: Tensor,
    v_pool: Tensor,
    k_scales: Tensor,
    v_scales: Tensor,
    slots: Tensor,
) -> None:
    """`write_kv` to pools that hold codes; its arguments have been checked."""
    kv_heads, head_dim = key.shape[1:]
    head_pad = max(16, triton.next_power_of_2(head_dim))
    tile_heads = max(1, min(triton.next_power_of_2(kv_heads), TILE_ELEMENTS // head_pad))
    kv_format = format_of(k_pool)
    quantise_kernel[(key.shape[0], triton.cdiv(kv_heads, tile_heads))](
        key,
        value,
        k_pool,
        v_pool,
        k_scales,
        v_scales,
        slots,
        key.stride(0),
        key.stride(1),
        value.stride(0),
        value.stride(1),
        kv_heads=kv_heads,
        head_dim=head_dim,
        head_pad=head_pad,
        tile_heads=tile_heads,
        full_scale=FULL_SCALE.get(kv_format, 0.0),
        kv_format=kv_format,
        **LAUNCH_OPTIONS,
    )
