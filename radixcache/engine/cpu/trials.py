"""Inputs to try a module's replacement on before it takes the module's place."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["trial_inputs"]

_ROWS = (1, 3, 40)


def trial_inputs(width: int, dtype: torch.dtype, *, sizes: tuple[float, ...] = (1.0,)) -> Iterator[Tensor]:
    """Random `[1, rows, width]`, a few rows and many, each in these sizes; always the same."""
    generator = torch.Generator().manual_seed(0)
    for rows in _ROWS:
        for size in sizes:
            yield (size * torch.randn(1, rows, width, generator=generator, dtype=torch.float32)).to(dtype)
