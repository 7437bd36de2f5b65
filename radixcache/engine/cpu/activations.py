"""Activation functions whose bits do not depend on how torch deals out the work.

torch splits an elementwise operation into one stretch a thread and finishes each stretch
with scalar code. For SiLU and GELU that code rounds otherwise than the vector code does, so
an element's bits depend on where it stands. Compositions of single functions (exp, tanh,
erf, which go through a vector library to the last element) and of exact operations do not.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

# The vector loop takes two AVX-512 registers of float32 at a time.
_STRETCH = 32


def silu(x: Tensor) -> Tensor:
    """`x * sigmoid(x)`."""
    return x / torch.neg(x).exp_().add_(1)


def gelu(x: Tensor) -> Tensor:
    """GELU by the error function."""
    return (x * 0.5) * torch.erf(x * math.sqrt(0.5)).add_(1)


def tanh_gelu(x: Tensor) -> Tensor:
    """GELU's approximation by tanh."""
    inner = (x * x * x).mul_(0.044715).add_(x).mul_(math.sqrt(2 / math.pi))
    return (x * 0.5) * inner.tanh_().add_(1)


class _SiLU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return silu(x)


class _GELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return gelu(x)


class _TanhGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return tanh_gelu(x)


_COMPOSED: dict[str, type[nn.Module]] = {
    "SiLU": _SiLU,
    "SiLUActivation": _SiLU,
    "GELU": _GELU,
    "GELUActivation": _GELU,
    "GELUTanh": _TanhGELU,
    "PytorchGELUTanh": _TanhGELU,
    "NewGELUActivation": _TanhGELU,
    "FastGELUActivation": _TanhGELU,
}


def settle_activations(model: nn.Module, width: int, threads: int) -> None:
    """Replace the model's activations by compositions where the split could show.

    Args:
        model: changed in place.
        width: elements a row that the activations see.
        threads: threads that torch may split an operation over.
    """
    if all(width % (_STRETCH * parts) == 0 for parts in range(1, threads + 1)):
        return
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            approximate = getattr(child, "approximate", "none") == "tanh"
            composed = _TanhGELU if approximate else _COMPOSED.get(type(child).__name__)
            if composed is not None:
                setattr(parent, name, composed())
