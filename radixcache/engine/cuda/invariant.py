"""Makes a model's layers independent of the batch on a GPU, where libraries choose algorithms by row count.

Linear layers, the head among them, and norms are replaced by modules that run kernels of one fixed order.
What is left, elementwise operations and lookups, rounds each number on its own. That nothing else is left is
seen from a run of the model, and that the kernels hold their promise on this device is tried bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from radixcache.engine.cuda.dependent_ops import find_dependent_operation
from radixcache.engine.cuda.norm_formulas import InvariantNorm, NormFinder
from radixcache_kernels import LinearShape, invariant_linear, linear_bits, row_bits


class InvariantLinear(nn.Module):
    """`x @ weight.T + bias`, a row's bits independent of all other rows.

    Args:
        weight: `[out_features, in_features]`, shared with the layer that this one replaces.
        bias: `[out_features]` or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.weight = weight
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        return invariant_linear(x, self.weight, self.bias)


class _Place(NamedTuple):
    """Where a module stands in the model, and what is to stand there."""

    parent: nn.Module
    name: str
    plain: nn.Module
    invariant: nn.Module


@torch.no_grad()
def make_invariant(model: nn.Module, device: torch.device) -> str | None:
    """Replace the model's linear layers and norms, in place, so that no row depends on its batch.

    Attention is not touched: that of the paged pool is invariant by construction (`attention_bits` tries it).
    Call it once the weights are on `device`, before anything is recorded; the replaced modules wait for
    nothing and choose nothing at run time, so they can be. Compiles kernels, which takes up to a minute the
    first time on a machine.

    Returns:
        None if the model is invariant now; else, in one line, why it cannot be; the model then stays as it
        was.
    """
    places = list(_replacements(model))
    try:
        reason = _tried(places, device)
    except Exception as error:  # a device, or a version of triton, that the kernels do not compile for
        first_line = str(error).partition("\n")[0]
        reason = f"the kernels do not run: {type(error).__name__}: {first_line}"
    if reason is not None:
        return f"{reason} (on {device})"
    for place in places:
        setattr(place.parent, place.name, place.invariant)
    try:
        reason = find_dependent_operation(model, device)
    except Exception as error:
        first_line = str(error).partition("\n")[0]
        reason = f"the model does not run with them: {type(error).__name__}: {first_line}"
    if reason is not None:
        for place in places:
            setattr(place.parent, place.name, place.plain)
    return reason


def _tried(places: list[_Place], device: torch.device) -> str | None:
    """Try the kernels on the shapes of all replacements; what differs, in one line."""
    shapes: dict[torch.dtype, set[LinearShape]] = {}
    widths: dict[torch.dtype, set[int]] = {}
    for place in places:
        layer = place.invariant
        if isinstance(layer, InvariantLinear):
            shape = LinearShape(layer.in_features, layer.out_features, layer.bias is not None)
            shapes.setdefault(layer.weight.dtype, set()).add(shape)
        elif isinstance(layer, InvariantNorm):
            widths.setdefault(layer.dtype, set()).add(layer.width)
    for dtype, some in shapes.items():
        reason = linear_bits(some, dtype, device)
        if reason is not None:
            return reason
    for dtype, others in widths.items():
        reason = row_bits(others, dtype, device)
        if reason is not None:
            return reason
    return None


def _replacements(model: nn.Module) -> Iterator[_Place]:
    """One for each linear layer and each norm of a known formula; those of one module are one module."""
    dtype = next((m.weight.dtype for m in model.modules() if type(m) is nn.Linear), torch.float32)
    norms = NormFinder(dtype)
    made: dict[nn.Module, nn.Module | None] = {}
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if child not in made:
                made[child] = _linear(child) or norms.replacement(child)
            invariant = made[child]
            if invariant is not None:
                yield _Place(parent, name, child, invariant)


def _linear(module: nn.Module) -> InvariantLinear | None:
    if type(module) is nn.Linear:
        return InvariantLinear(module.weight, module.bias)
    if isinstance(module, Conv1D):
        # Stored the other way round: a copy in the kernel's order takes its place in memory.
        weight = nn.Parameter(module.weight.detach().t().contiguous(), requires_grad=False)
        return InvariantLinear(weight, module.bias)
    return None
