"""How keys and values are stored: the definition that the kernels and the CPU path share.

| format | one head of one token's key or value | beside it |
|---|---|---|
| plain | head_dim numbers of a float type | nothing |
| int8 | head_dim codes in -127..127 | one float32 scale |
| fp8 | head_dim E4M3 codes in -448..448 | one float32 scale |
| int4 | head_dim // 2 bytes, two 4-bit codes each, the first in the low half | int16 words, see below |

Codes and scales are indexed alike, so a block id names both. A token is quantised once, when it is written,
from its own numbers alone, and always read as stored. So attention reads the same numbers whether a token was
cached or computed in the same step.

int4 divides the channels of a head into groups of 32, or of 16 where head_dim is no multiple of 32; each
group has a zero and a step, and a number is code x step + zero. Values have 4-bit codes, keys 6-bit ones: the
channels of a key differ much in size, and 4 bits are accurate enough only per channel over many tokens, which
would tie a token's stored form to tokens that come after it. The words of a head are

    zeros [groups] | steps [groups] | keys only: the two high bits of the codes, eight a word [head_dim // 8]

where zeros and steps are the upper halves of float32, as in bfloat16. The zero is rounded down and the step
up, so that every number of the group is in range.

Imports torch alone, not triton. Rounding is to nearest, ties to even, in float32, here and in the kernels.
"""

import torch
from torch import Tensor

PLAIN, INT8, FP8, INT4 = "plain", "int8", "fp8", "int4"

CODES = {torch.int8: INT8, torch.float8_e4m3fn: FP8, torch.uint8: INT4}
"""Format by the element type of a pool that holds codes; every other type is plain."""

FULL_SCALE = {INT8: 127.0, FP8: 448.0}
"""The greatest code: the greatest absolute number of a head is stored as it."""

KEY_BITS, VALUE_BITS = 6, 4
"""Bits of an int4 code of a key (the two high ones are in the words) and of a value."""

_UPPER, _LOWER = -0x10000, 0xFFFF


def format_of(pool: Tensor) -> str:
    """The format of a pool of keys or values, by its element type."""
    return CODES.get(pool.dtype, PLAIN)


def stored_width(stored: torch.dtype, head_dim: int) -> int:
    """Elements of type `stored` that hold one head of one token."""
    return head_dim // 2 if CODES.get(stored) == INT4 else head_dim


def head_dim_of(pool: Tensor) -> int:
    """Channels of a head that the pool's last dimension stores."""
    return pool.shape[-1] * (2 if format_of(pool) == INT4 else 1)


def group_of(head_dim: int) -> int:
    """Channels of an int4 group; head_dim must be a multiple of 16."""
    return 32 if head_dim % 32 == 0 else 16


def side_words(head_dim: int, *, keys: bool) -> int:
    """int16 words beside the int4 codes of one head of one token."""
    return 2 * (head_dim // group_of(head_dim)) + (head_dim // 8 if keys else 0)


def head_scales(
    stored: torch.dtype, head_dim: int, *, keys: bool
) -> tuple[tuple[int, ...], torch.dtype] | None:
    """Shape and type of what is stored beside one head of one token; None for plain formats.

    Raises:
        ValueError: heads of this width cannot be stored as int4.
    """
    kind = CODES.get(stored)
    if kind is None:
        return None
    if kind != INT4:
        return (), torch.float32
    if head_dim % 16:
        raise ValueError(f"int4 needs heads of a multiple of 16 elements, not {head_dim}")
    return (side_words(head_dim, keys=keys),), torch.int16


def scales_of(pool: Tensor, *, keys: bool) -> tuple[tuple[int, ...], torch.dtype] | None:
    """Shape and type of the scales of a pool of keys or of values; None if it has none.

    Raises:
        ValueError: heads of this width cannot be stored as int4.
    """
    found = head_scales(pool.dtype, head_dim_of(pool), keys=keys)
    return None if found is None else ((*pool.shape[:-1], *found[0]), found[1])


def quantise(numbers: Tensor, stored: torch.dtype, *, keys: bool) -> tuple[Tensor, Tensor]:
    """Codes and scales of `numbers`.

    Args:
        numbers: `[..., head_dim]` of any float type.
        stored: element type of the codes, one of `CODES`.
        keys: whether they are keys or values; they differ in int4.

    Returns:
        Codes `[..., stored width]` and scales: float32 `[...]`, or int16 words `[..., side words]`. What is
        not finite (a head of int8 and fp8, a group of int4) gets scales that are not, and is read back so.
    """
    numbers = numbers.float()
    if CODES[stored] == INT4:
        return _quantise_int4(numbers, keys=keys)
    full = FULL_SCALE[CODES[stored]]
    scales = _divided(numbers.abs().amax(-1), full)
    codes = numbers / scales.masked_fill(scales == 0, 1.0).unsqueeze(-1)
    codes.clamp_(-full, full)
    return (codes.round_() if CODES[stored] == INT8 else codes).to(stored), scales


def dequantise(codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """The numbers `[..., head_dim]` that codes and scales stand for.

    Computed in float32 and rounded to `dtype`; exactly, in float64, if that is `dtype`.
    """
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    if format_of(codes) == INT4:
        return _dequantise_int4(codes, scales, wide).to(dtype)
    scales = scales.to(wide)
    if format_of(codes) == FP8:
        # Its bits, moved to where float16 has them, stand for 2**-8 of the number: faster than a
        # conversion, which is not vectorised. (No code is NaN: the scale is, then.)
        halves = codes.view(torch.int8).to(torch.int16).bitwise_left_shift_(7).bitwise_and_(-0x4001)
        numbers, scales = halves.view(torch.float16).to(wide), scales * 256.0
    else:
        numbers = codes.to(wide)
    return numbers.mul_(scales.unsqueeze(-1)).to(dtype)


def _quantise_int4(numbers: Tensor, *, keys: bool) -> tuple[Tensor, Tensor]:
    levels = 2 ** (KEY_BITS if keys else VALUE_BITS) - 1
    *heads, head_dim = numbers.shape
    group = group_of(head_dim)
    parts = numbers.reshape(*heads, head_dim // group, group)
    finite = parts.isfinite()
    parts = parts.masked_fill(~finite, 0.0)
    low = parts.amin(-1).view(torch.int32)
    zero_bits = torch.where(low < 0, low + _LOWER, low) & _UPPER
    zeros = zero_bits.view(torch.float32)
    steps = _divided(parts.amax(-1) - zeros, levels)
    steps.masked_fill_(~finite.all(-1), torch.inf)
    step_bits = (steps.view(torch.int32) + _LOWER) & _UPPER
    steps = step_bits.view(torch.float32)
    codes = (parts - zeros.unsqueeze(-1)) / steps.masked_fill(steps == 0, 1.0).unsqueeze(-1)
    codes = codes.round_().clamp_(max=levels).to(torch.int32).flatten(-2)
    pairs = (codes & 15).view(*heads, head_dim // 2, 2)
    words = [(zero_bits >> 16).to(torch.int16), (step_bits >> 16).to(torch.int16)]
    if keys:
        eights = (codes >> 4).view(*heads, head_dim // 8, 8) << torch.arange(0, 16, 2, device=codes.device)
        words.append(eights.sum(-1).to(torch.int16))
    return (pairs[..., 0] | pairs[..., 1] << 4).to(torch.uint8), torch.cat(words, dim=-1)


def _dequantise_int4(packed: Tensor, words: Tensor, wide: torch.dtype) -> Tensor:
    head_dim = packed.shape[-1] * 2
    heads, group = packed.shape[:-1], group_of(head_dim)
    groups = head_dim // group
    codes = torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2)
    high = words[..., 2 * groups :]
    if high.shape[-1]:
        shifts = torch.arange(0, 16, 2, dtype=torch.int16, device=words.device)
        fields = (high.unsqueeze(-1) >> shifts).bitwise_and_(3).to(torch.uint8)
        codes |= fields.flatten(-2) << 4
    scales = (words[..., : 2 * groups].to(torch.int32) << 16).view(torch.float32).to(wide)
    zeros, steps = scales.view(*heads, 2, groups, 1).unbind(-3)
    return codes.to(wide).view(*heads, groups, group).mul_(steps).add_(zeros).flatten(-2)


def _divided(numbers: Tensor, divisor: float) -> Tensor:
    """Correctly rounded quotients: on a GPU torch multiplies by the reciprocal of a plain number."""
    return numbers / torch.full_like(numbers, divisor)
