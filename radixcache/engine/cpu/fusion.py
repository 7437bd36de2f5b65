"""Joins projections of the same input into one matrix product.

A decode step is bound by reading weights and by the number of small operations; query, key
and value projections, or an MLP's gate and up projections, cost one product instead of three
or two. The model's code stays as it is: the first of the joined modules to be called computes
for all, the others hand out their part.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_FAMILIES = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


class _Held:
    """Outputs that have not been handed out yet, and the input that they belong to."""

    __slots__ = ("input", "outputs")

    def __init__(self) -> None:
        self.input: Tensor | None = None
        self.outputs: dict[int, Tensor] = {}


class _Joined(nn.Module):
    """One product for several projections; keeps its output until all parts are handed out."""

    def __init__(self, parts: list[nn.Linear]) -> None:
        super().__init__()
        weight = torch.cat([part.weight.detach() for part in parts])
        biases = [part.bias.detach() for part in parts if part.bias is not None]
        self.linear = nn.Linear(
            weight.shape[1], weight.shape[0], bias=bool(biases), device="meta", dtype=weight.dtype
        )
        self.linear.weight = nn.Parameter(weight, requires_grad=False)
        if biases:
            self.linear.bias = nn.Parameter(torch.cat(biases), requires_grad=False)
        self._sizes = [part.out_features for part in parts]
        self._held = _Held()

    def part(self, index: int, x: Tensor) -> Tensor:
        """Part `index` of the product with `x`."""
        held = self._held
        if held.input is not x or index not in held.outputs:
            held.input = x
            held.outputs = dict(enumerate(self.linear(x).split_with_sizes(self._sizes, -1)))
        out = held.outputs.pop(index)
        if not held.outputs:
            held.input = None
        return out


class _Part(nn.Module):
    """Stands where one of the joined projections stood."""

    def __init__(self, joined: _Joined, index: int, *, owner: bool) -> None:
        super().__init__()
        if owner:
            self.joined = joined
        # A plain attribute, so that the product is found once among the model's modules.
        self.__dict__["_source"] = joined
        self._index = index

    def forward(self, x: Tensor) -> Tensor:
        source: _Joined = self.__dict__["_source"]
        return source.part(self._index, x)


def joined_projection(part: nn.Module | None) -> nn.Linear | None:
    """The linear layer that a joined projection is part of; None for any other module."""
    return part.__dict__["_source"].linear if isinstance(part, _Part) else None


def fuse_projections(model: nn.Module) -> None:
    """Join what can be joined, in place; a model that has been treated stays as it is.

    Only plain `nn.Linear` siblings are joined, alike in input width, dtype and in having a bias.
    """
    for module in list(model.modules()):
        for names in _FAMILIES:
            parts = [getattr(module, name, None) for name in names]
            linears = [part for part in parts if type(part) is nn.Linear]
            if len(linears) < len(names) or not _alike(linears):
                continue
            joined = _Joined(linears)
            for index, name in enumerate(names):
                setattr(module, name, _Part(joined, index, owner=index == 0))


def _alike(parts: list[nn.Linear]) -> bool:
    first = parts[0]
    return all(
        part.in_features == first.in_features
        and part.weight.dtype == first.weight.dtype
        and (part.bias is None) == (first.bias is None)
        for part in parts
    )
