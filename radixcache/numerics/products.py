"""Matrix products on a CPU, and with how many rows they may be called."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from radixcache.numerics.inputs import cancelling_product
from radixcache.numerics.memory import remembered_rule
from radixcache.numerics.rules import RowRule, find_rule

# Rows that MKL lays the packed matrix out for; it serves any number.
_PACKED_FOR_ROWS = 512
_COUNTS = (*range(1, 17), 20, 24, 28, 32, 40, 48, 56, 64, 96, 128, 192, 256, 320, 448, 512)
# Of a layer too large to try them all, as a head is, which runs on few rows.
_LARGE_LAYER = 1 << 24
_COUNTS_OF_LARGE = (*range(1, 9), 12, 16, 32, 64)
# Multiply-adds that a trial may take in its large products, and in those that compare rows a few at a time.
_LARGE_BUDGET, _SMALL_BUDGET = 1 << 31, 1 << 28


class PackedWeight(NamedTuple):
    """A float32 weight as MKL packs it, once instead of in every product.

    Attributes:
        packed: opaque to torch.
        shape: `[out_features, in_features]`, without memory: the product asks it for its shape alone.
    """

    packed: Tensor
    shape: Tensor

    @classmethod
    def of(cls, weight: Tensor) -> PackedWeight:
        """Pack a weight `[out_features, in_features]`."""
        packed = torch.ops.mkl._mkl_reorder_linear_weight(weight.contiguous(), _PACKED_FOR_ROWS)
        return cls(packed, weight.new_empty(1).expand(weight.shape))

    def multiply(self, x: Tensor, bias: Tensor | None, rows: int) -> Tensor:
        """`x @ weight.T + bias` for `rows` rows."""
        out: Tensor = torch.ops.mkl._mkl_linear.default(x, self.packed, self.shape, bias, rows)
        return out


def row_pieces(rows: Tensor, rule: RowRule) -> list[Tensor]:
    """`[n, width]` cut into what `rule` allows; the last piece is filled up with zeros."""
    counts = rule.pieces(len(rows))
    missing = sum(counts) - len(rows)
    if missing:
        rows = F.pad(rows, (0, 0, 0, missing))
    return list(rows.split_with_sizes(counts))


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
    tried = _COUNTS if size < _LARGE_LAYER else _COUNTS_OF_LARGE
    counts = [count for count in tried if count <= max(64, _LARGE_BUDGET // (8 * size))]
    compared = min(max(_SMALL_BUDGET // (4 * size), 8), 64)
    rows, weight = cancelling_product(max(counts) + compared, width_in, width_out, dtype)
    packed_weight = PackedWeight.of(weight) if packed else None

    def call(first: int, count: int) -> tuple[Tensor]:
        some = rows[first : first + count].clone()
        return (
            F.linear(some, weight) if packed_weight is None else packed_weight.multiply(some, None, count),
        )

    return find_rule(call, counts, compared)
