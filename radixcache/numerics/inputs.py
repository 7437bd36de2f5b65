"""Inputs whose results are nothing but rounding."""

from __future__ import annotations

import torch
from torch import Tensor


def cancelling_product(rows: int, width: int, outputs: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Rows `[rows, width]` and a weight `[outputs, width]` whose products are nothing but rounding.

    Every term has its opposite at another place, so a sum is exactly zero but for the rounding of partial
    sums: another order of summing shows in nearly every output, even in a half type, whose own rounding
    hides most such differences in sums of random terms. Of an odd width the last column is zero.
    """
    generator = torch.Generator().manual_seed(0)
    half = width // 2
    places = torch.randperm(width, generator=generator)
    one, opposite = places[:half], places[half : 2 * half]
    # Of many magnitudes, so that partial sums are rounded in every type; what is left of them is a normal
    # number in float16, and no partial sum overflows there.
    magnitudes = torch.randint(-5, 6, (half,), generator=generator)
    terms = torch.ldexp(8 * torch.randn(rows, half, generator=generator, dtype=torch.float32), magnitudes)
    factors = 4 * torch.randn(outputs, half, generator=generator, dtype=torch.float32)
    x, weight = (torch.zeros(count, width, dtype=torch.float32) for count in (rows, outputs))
    x[:, one], x[:, opposite] = terms, -terms
    weight[:, one] = weight[:, opposite] = factors
    return x.to(dtype), weight.to(dtype)
