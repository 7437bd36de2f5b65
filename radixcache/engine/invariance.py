"""Finds how a step must be padded for a row's products not to depend on the batch.

Attention is independent of the batch by construction (`backends/split_plan.py`); what is
left is the rounding of matrix products, which BLAS libraries let depend on the number of
rows. Rather than trust a library, the products of the model at hand are tried.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from radixcache.engine.products import PackedLinear

_CANDIDATES = (1, 2, 4, 8, 16, 32, 64)
_SMALL_COUNTS = (*range(1, 17), 24, 32, 48, 64)
_LARGE_COUNTS = (128, 192, 320, 512)
# A wider layer is tried at small row counts only: a language-model head runs on the few rows
# whose logits are wanted.
_HEAD_WIDTH = 16_384


@torch.inference_mode()
def row_multiple(model: nn.Module) -> int | None:
    """Smallest multiple to pad a step's rows to, so that a row's products never change.

    Tries the model's linear layers, one of each shape, with random rows at many row counts,
    against one reference count, bit for bit.

    Returns:
        1 if any number of rows gives the same bits, else 2 to 64, or None if no multiple
        does: then outputs may differ in rounding from batch to batch.
    """
    failing: set[int] = set()
    for layer in _distinct_layers(model):
        failing |= _failing_counts(layer)
    return next((c for c in _CANDIDATES if not any(count % c == 0 for count in failing)), None)


def _distinct_layers(model: nn.Module) -> list[nn.Module]:
    layers: dict[tuple[object, ...], nn.Module] = {}
    for module in model.modules():
        if isinstance(module, nn.Linear | Conv1D | PackedLinear):
            key = (type(module), _width_in(module), _width_out(module), module.bias is None)
            layers.setdefault(key, module)
    return list(layers.values())


def _width_in(layer: nn.Module) -> int:
    width = layer.nx if isinstance(layer, Conv1D) else layer.in_features
    return int(width)  # type: ignore[arg-type]


def _width_out(layer: nn.Module) -> int:
    width = layer.nf if isinstance(layer, Conv1D) else layer.out_features
    return int(width)  # type: ignore[arg-type]


def _failing_counts(layer: nn.Module) -> set[int]:
    """Row counts at which some row differs from the same row among 64 others."""
    counts = _SMALL_COUNTS if _width_out(layer) > _HEAD_WIDTH else (*_SMALL_COUNTS, *_LARGE_COUNTS)
    weight = getattr(layer, "weight", None)
    dtype = torch.float32 if weight is None else weight.dtype
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(max(counts), _width_in(layer), generator=generator).to(dtype)
    failing: set[int] = set()
    reference = layer(rows[:64])
    for count in counts:
        # The first row stands in the last place too: its place must not matter either.
        some = rows[:count].clone()
        some[-1] = rows[0]
        out = layer(some)
        compared = min(count - 1, 64)
        if not (torch.equal(out[:compared], reference[:compared]) and torch.equal(out[-1], reference[0])):
            failing.add(count)
    return failing
