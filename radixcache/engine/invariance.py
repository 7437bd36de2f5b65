"""Finds how a step must be padded for a row's products not to depend on the batch.

Attention is independent of the batch by construction (`attention/split_plan.py`); what is
left is the rounding of matrix products, which BLAS libraries let depend on the number of
rows. Rather than trust a library, the products of the model at hand are tried.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from radixcache.blas import request_reproducible_blas

_CANDIDATES = (1, 2, 4, 8, 16, 32, 64)
_SMALL_COUNTS = (*range(1, 17), 24, 32, 48, 64)
_LARGE_COUNTS = (128, 192, 320, 512)
# Products with more weights than this are tried at small row counts only: a language-model
# head runs on the few rows whose logits are wanted.
_HEAD_WEIGHTS = 8_000_000


def row_multiple(model: nn.Module) -> int | None:
    """Smallest multiple to pad a step's rows to, so that a row's products never change.

    Tries every distinct weight shape of the model's linear layers, with random rows at many
    row counts, against one reference count, bit for bit.

    Returns:
        1 if any number of rows gives the same bits, else 2 to 64, or None if no multiple
        does: then outputs may differ in rounding from batch to batch.
    """
    request_reproducible_blas()
    failing: set[int] = set()
    for weight, bias, transposed in _distinct_products(model):
        failing |= _failing_counts(weight, bias, transposed=transposed)
    return next((c for c in _CANDIDATES if not any(count % c == 0 for count in failing)), None)


def _distinct_products(model: nn.Module) -> list[tuple[Tensor, Tensor | None, bool]]:
    seen: dict[tuple[object, ...], tuple[Tensor, Tensor | None, bool]] = {}
    for module in model.modules():
        if isinstance(module, nn.Linear | Conv1D):
            transposed = isinstance(module, Conv1D)
            weight, bias = module.weight, module.bias
            key = (tuple(weight.shape), weight.dtype, bias is None, transposed)
            seen.setdefault(key, (weight, bias, transposed))
    return list(seen.values())


def _failing_counts(weight: Tensor, bias: Tensor | None, *, transposed: bool) -> set[int]:
    """Row counts at which some row differs from the same row among 64 others."""
    counts = _SMALL_COUNTS if weight.numel() > _HEAD_WEIGHTS else (*_SMALL_COUNTS, *_LARGE_COUNTS)
    width = weight.shape[0] if transposed else weight.shape[1]
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(max(counts), width, generator=generator).to(weight.device, weight.dtype)
    # The first row stands in the last place too: its place must not matter either.
    failing: set[int] = set()
    reference = _product(rows[:64], weight, bias, transposed=transposed)
    for count in counts:
        some = rows[:count].clone()
        some[-1] = rows[0]
        out = _product(some, weight, bias, transposed=transposed)
        compared = min(count - 1, 64)
        if not (torch.equal(out[:compared], reference[:compared]) and torch.equal(out[-1], reference[0])):
            failing.add(count)
    return failing


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None, *, transposed: bool) -> Tensor:
    if transposed and bias is not None:
        return torch.addmm(bias, rows, weight)
    return F.linear(rows, weight.t() if transposed else weight, bias)
