"""What keys and values are stored as: the model's own numbers, other floats, or codes of a token.

A token's key and value are quantised once, when they are written, from their own numbers alone, and always
read as stored. So what a row attends to does not depend on whether a token was cached or computed in the
same step.

Of `fp8` and `int8` a token's head has one float32 scale. `int4` is in `int4.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from radixcache.kv.int4 import dequantise_int4, quantise_int4, side_words

KV_DTYPES = ("auto", "fp16", "bf16", "fp8", "int8", "int4")
"""Names of storage formats; `auto` stores what the model computes."""

_STORED = {
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8": torch.float8_e4m3fn,
    "int8": torch.int8,
    "int4": torch.uint8,
}
_FULL_SCALE = {torch.int8: 127.0, torch.float8_e4m3fn: 448.0}
QUANTISED = frozenset({*_FULL_SCALE, torch.uint8})
"""Element types of pools that hold codes."""


def stored_dtype(kv_dtype: str, dtype: torch.dtype) -> torch.dtype:
    """The element type in the pool for a model that computes in `dtype`.

    Raises:
        ValueError: an unknown name.
    """
    if kv_dtype == "auto":
        return dtype
    if kv_dtype not in _STORED:
        raise ValueError(f"kv_dtype is {kv_dtype!r}; it must be one of {', '.join(KV_DTYPES)}")
    return _STORED[kv_dtype]


def stored_width(stored: torch.dtype, head_dim: int) -> int:
    """Elements of the pool that hold one head of a token."""
    return head_dim // 2 if stored == torch.uint8 else head_dim


def scales_of(
    stored: torch.dtype, head_dim: int, *, keys: bool
) -> tuple[tuple[int, ...], torch.dtype] | None:
    """Shape and type of what lies beside the codes of one head of a key or a value; None if nothing does."""
    if stored == torch.uint8:
        return (side_words(head_dim, keys=keys),), torch.int16
    return ((), torch.float32) if stored in QUANTISED else None


def quantise(numbers: Tensor, stored: torch.dtype, *, keys: bool) -> tuple[Tensor, Tensor]:
    """Codes of `numbers` `[..., head_dim]` and what scales them.

    Rounding is to nearest, ties to even, in float32, as in the kernels. The scale of 8-bit codes
    makes the greatest absolute number of a head the greatest code.
    """
    numbers = numbers.float()
    if stored == torch.uint8:
        return quantise_int4(numbers, keys=keys)
    full = _FULL_SCALE[stored]
    top = numbers.abs().amax(-1)
    # By a tensor: on a GPU torch multiplies by the reciprocal of a plain number, which is not as exact.
    scales = top / torch.full_like(top, full)
    codes = numbers / scales.masked_fill(scales == 0, 1.0).unsqueeze(-1)
    codes.clamp_(-full, full)
    return (codes.round_() if stored == torch.int8 else codes).to(stored), scales


def dequantise(codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """The numbers that codes stand for: computed in float32, then rounded to `dtype`."""
    if codes.dtype == torch.uint8:
        return dequantise_int4(codes, scales).to(dtype)
    if codes.dtype == torch.float8_e4m3fn:
        # Its bits, moved to where float16 has them, stand for 2**-8 of the number: faster than a
        # conversion, which is not vectorised. (No code is NaN: the scale is, then.)
        halves = codes.view(torch.int8).to(torch.int16).bitwise_left_shift_(7).bitwise_and_(-0x4001)
        numbers, scales = halves.view(torch.float16).float(), scales * 256.0
    else:
        numbers = codes.float()
    return numbers.mul_(scales.unsqueeze(-1)).to(dtype)
