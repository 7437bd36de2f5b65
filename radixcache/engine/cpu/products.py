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

from radixcache.engine.cpu.numerics import remembered_rule
from radixcache.engine.cpu.trials import cancelling_product
from radixcache.engine.invariance import RowRule, find_rule

# Rows that MKL lays the packed matrix out for; it serves any number.
_PACKED_FOR_ROWS = 512
_COUNTS = (*range(1, 17), 20, 24, 28, 32, 40, 48, 56, 64, 96, 128, 192, 256, 320, 448, 512)
# Multiply-adds that a trial may take in its large products, and in those that compare rows a few at a time.
_LARGE_BUDGET, _SMALL_BUDGET = 1 << 31, 1 << 28


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
        self._product = torch.ops.mkl._mkl_linear.default
        self._packed = torch.ops.mkl._mkl_reorder_linear_weight(weight.contiguous(), _PACKED_FOR_ROWS)
        # The product asks the plain weight for its shape and for nothing else.
        self._shape_only = weight.new_empty(1).expand(weight.shape)

    def multiply(self, x: Tensor, rows: int) -> Tensor:
        out: Tensor = self._product(x, self._packed, self._shape_only, self.bias, rows)
        return out


class PlainLinear(Product):
    """A product with the weight as it is, `[out_features, in_features]`."""

    def __init__(self, weight: Tensor, bias: Tensor | None, rule: RowRule | None = None) -> None:
        super().__init__(rule)
        self.out_features, self.in_features = weight.shape
        self.weight, self.bias = weight, bias

    def multiply(self, x: Tensor, rows: int) -> Tensor:  # noqa: ARG002 - what a packed one needs
        return F.linear(x, self.weight, self.bias)


def row_pieces(rows: Tensor, rule: RowRule) -> list[Tensor]:
    """`[n, width]` cut into what `rule` allows; the last piece is filled up with zeros."""
    counts = rule.pieces(len(rows))
    missing = sum(counts) - len(rows)
    if missing:
        rows = F.pad(rows, (0, 0, 0, missing))
    return list(rows.split_with_sizes(counts))


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


def product_rule(width_in: int, width_out: int, dtype: torch.dtype, *, packed: bool) -> RowRule | None:
    """The row rule of products of this shape here, tried once on a machine and then remembered."""
    kind = "packed" if packed else "plain"
    return remembered_rule(
        f"{kind} product {width_in}x{width_out} {dtype}",
        lambda: _try_product(width_in, width_out, dtype, packed=packed),
    )


@torch.inference_mode()
def _try_product(width_in: int, width_out: int, dtype: torch.dtype, *, packed: bool) -> RowRule | None:
    size = width_in * width_out
    counts = [count for count in _COUNTS if count <= max(64, _LARGE_BUDGET // (8 * size))]
    compared = min(max(_SMALL_BUDGET // (4 * size), 8), 64)
    rows, weight = cancelling_product(max(counts) + compared, width_in, width_out, dtype)
    layer = PackedLinear(weight, None) if packed else PlainLinear(weight, None)

    def call(first: int, count: int) -> tuple[Tensor]:
        return (layer.multiply(rows[first : first + count].clone(), count),)

    return find_rule(call, counts, compared)
