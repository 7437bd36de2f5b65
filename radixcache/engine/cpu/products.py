"""Linear layers on a CPU: MKL's packed weights in float32, and rows only in numbers that change no bit.

MKL packs a weight matrix anew in every product; with few rows, as in a decode step, that costs more than the
product. Packed ahead, a float32 product of 1 to 16 rows takes about half the time, and none takes longer.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from radixcache.numerics.products import PackedWeight, product_rule, row_pieces
from radixcache.numerics.rules import RowRule

# Routers multiply by their layer's weight without calling it: layers that may be one keep it.
_FEW_OUTPUTS = 512


class Product(nn.Module):
    """`x @ weight.T + bias`, called with numbers of rows that `rule` allows.

    Attributes:
        rule: found by trial for this shape on this machine; None calls with whatever rows there are.
    """

    in_features: int
    out_features: int

    def __init__(self, rule: RowRule | None) -> None:
        super().__init__()
        self.rule = rule

    def multiply(self, x: Tensor, rows: int) -> Tensor:
        """The product with all of `x` in one call."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        rows = x.numel() // self.in_features
        if not rows:
            return x.new_empty(*x.shape[:-1], self.out_features)
        if self.rule is None or self.rule.fits(rows):
            return self.multiply(x, rows)
        flat = x.reshape(rows, self.in_features)
        parts = [self.multiply(part, len(part)) for part in row_pieces(flat, self.rule)]
        out = parts[0] if len(parts) == 1 else torch.cat(parts)
        return out[:rows].view(*x.shape[:-1], self.out_features)


class PackedLinear(Product):
    """A product with a weight that MKL has packed, which is kept in place of the plain one.

    Args:
        weight: float32 `[out_features, in_features]`.
        bias: `[out_features]` or None.
        rule: how many rows a call may have.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, rule: RowRule | None = None) -> None:
        super().__init__(rule)
        self.out_features, self.in_features = weight.shape
        self.bias = bias
        self._packed = PackedWeight.of(weight)
        if self.out_features <= _FEW_OUTPUTS:
            self.weight = weight

    def multiply(self, x: Tensor, rows: int) -> Tensor:
        return self._packed.multiply(x, self.bias, rows)


class PlainLinear(Product):
    """A product with the weight as it is, `[out_features, in_features]`."""

    def __init__(self, weight: Tensor, bias: Tensor | None, rule: RowRule | None = None) -> None:
        super().__init__(rule)
        self.out_features, self.in_features = weight.shape
        self.weight, self.bias = weight, bias

    def multiply(self, x: Tensor, rows: int) -> Tensor:  # noqa: ARG002 - what a packed one needs
        return F.linear(x, self.weight, self.bias)


def settle_products(model: nn.Module, *, invariant: bool) -> None:
    """Replace the model's linear layers, and no subclass of them, by products that keep to a rule.

    With `invariant` False they are called with whatever rows there are.
    """
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) not in (nn.Linear, Conv1D):
                continue
            weight: Any = child.weight.detach()  # type: ignore[operator]
            weight = weight.t().contiguous() if isinstance(child, Conv1D) else weight
            packed = weight.dtype == torch.float32 and torch._C.has_mkl
            rule = product_rule(weight.shape[1], weight.shape[0], weight.dtype, packed=packed)
            bias: Any = child.bias
            kind = PackedLinear if packed else PlainLinear
            setattr(parent, name, kind(weight, bias, rule if invariant else None))
