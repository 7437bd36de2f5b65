"""Linear layers whose weights MKL has packed once.

MKL packs a weight matrix anew in every product; with few rows, as in a decode step, that
costs more than the product. Packed ahead, a float32 product of 1 to 16 rows takes about half
the time, none takes longer, and a row's bits are the same at every number of rows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

# Rows that MKL lays the packed matrix out for; it serves any number.
_PACKED_FOR_ROWS = 512


class PackedLinear(nn.Module):
    """`x @ weight.T + bias` with a packed weight, which it keeps in place of the plain one.

    Args:
        weight: float32 `[out_features, in_features]`.
        bias: `[out_features]` or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.bias = bias
        self._product = torch.ops.mkl._mkl_linear.default
        self._packed = torch.ops.mkl._mkl_reorder_linear_weight(weight.contiguous(), _PACKED_FOR_ROWS)
        # The product asks the plain weight for its shape and for nothing else.
        self._shape_only = weight.new_empty(1).expand(weight.shape)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.numel() // self.in_features
        if not rows:
            return x.new_empty(*x.shape[:-1], self.out_features)
        out: Tensor = self._product(x, self._packed, self._shape_only, self.bias, rows)
        return out


def pack_products(model: nn.Module) -> None:
    """Replace the model's float32 linear layers by packed ones, where torch has MKL."""
    if not torch._C.has_mkl:
        return
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if not isinstance(child, nn.Linear | Conv1D) or child.weight.dtype != torch.float32:
                continue
            weight = child.weight.t() if isinstance(child, Conv1D) else child.weight
            setattr(parent, name, PackedLinear(weight.detach(), child.bias))
