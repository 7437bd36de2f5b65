"""Functions that models call, in forms whose bits do not depend on where an element or a row is.

A model whose products and activations are all modules needs none of this: those are replaced once. Experts,
routers and gates call functions, which are replaced while the model runs, at a microsecond or two a call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from radixcache.engine.cpu.activations import gelu, silu, tanh_gelu
from radixcache.numerics.inputs import cancelling_product
from radixcache.numerics.memory import remembered_rule
from radixcache.numerics.products import product_rule, row_pieces
from radixcache.numerics.rules import RowRule, find_rule

_COUNTS = (*range(1, 17), 20, 24, 28, 32, 40, 48, 56, 64, 128)
_COMPARED = 32
_HALVES = (torch.float16, torch.bfloat16)


class SettledFunctions(TorchFunctionMode):
    """While it is on, products keep to row rules and activations are composed of safe operations."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        replacement = _REPLACEMENTS.get(func)
        if replacement is None:
            return func(*args, **(kwargs or {}))
        return replacement(func, *args, **(kwargs or {}))


def _sigmoid(x: Tensor) -> Tensor:
    return torch.neg(x).exp_().add_(1).reciprocal_()


def _softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    scaled = x * beta
    smooth = torch.log1p(torch.exp(-scaled.abs())) + scaled.clamp(min=0)
    return torch.where(scaled > threshold, x, smooth / beta)


def _mish(x: Tensor) -> Tensor:
    return x * torch.tanh(_softplus(x))


def _elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    return torch.where(x > 0, x, alpha * torch.expm1(x))


def _selu(x: Tensor) -> Tensor:
    return 1.0507009873554805 * _elu(x, 1.6732632423543772)


def _gelu(x: Tensor, approximate: str = "none") -> Tensor:
    return tanh_gelu(x) if approximate == "tanh" else gelu(x)


def _composed(settled: Callable[..., Tensor]) -> Callable[..., Any]:
    """In place of a function of float32, elsewhere the function itself."""

    def call(func: Any, x: Tensor, *args: Any, inplace: bool = False, **kwargs: Any) -> Any:
        if x.dtype != torch.float32:
            return func(x, *args, **kwargs)
        out = settled(x, *args, **kwargs)
        return x.copy_(out) if inplace else out

    return call


def _in_place(settled: Callable[..., Tensor]) -> Callable[..., Any]:
    def call(func: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        return x.copy_(settled(x, *args, **kwargs)) if x.dtype == torch.float32 else func(x, *args, **kwargs)

    return call


def _linear(func: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    if weight.dim() != 2 or not _settles(x, weight):
        return func(x, weight, bias)
    rule = product_rule(weight.shape[1], weight.shape[0], weight.dtype, packed=False)
    return _by_rows(x, weight.shape[0], rule, lambda part: func(part, weight, bias))


def _matmul(func: Any, x: Tensor, other: Tensor, **kwargs: Any) -> Any:
    if kwargs or x.dim() < 2 or not _settles(x, other):
        return func(x, other, **kwargs)
    if other.dim() == 2:
        rule = _matmul_rule(1, other.shape[0], other.shape[1], other.dtype, other.is_contiguous())
        return _by_rows(x, other.shape[1], rule, lambda part: func(part, other))
    if other.dim() == 3 and x.dim() == 3 and len(x) == len(other):
        rule = _matmul_rule(len(other), other.shape[1], other.shape[2], other.dtype, other.is_contiguous())
        if rule is None or rule.fits(x.shape[1]):
            return func(x, other)
        counts = rule.pieces(x.shape[1])
        padded = F.pad(x, (0, 0, 0, sum(counts) - x.shape[1]))
        return torch.cat([func(part, other) for part in padded.split_with_sizes(counts, 1)], 1)[
            :, : x.shape[1]
        ]
    return func(x, other)


def _settles(x: Tensor, weight: Tensor) -> bool:
    return x.dtype == weight.dtype and (x.dtype == torch.float32 or x.dtype in _HALVES) and x.numel() > 0


def _by_rows(x: Tensor, width: int, rule: RowRule | None, call: Callable[[Tensor], Tensor]) -> Tensor:
    rows = x.numel() // x.shape[-1]
    if rule is None or rule.fits(rows):
        return call(x)
    parts = [call(part) for part in row_pieces(x.reshape(rows, -1), rule)]
    return torch.cat(parts)[:rows].view(*x.shape[:-1], width)


def _matmul_rule(
    batch: int, width: int, outputs: int, dtype: torch.dtype, contiguous: bool
) -> RowRule | None:
    layout = "rows" if contiguous else "columns"
    name = f"matmul {batch}x{width}x{outputs} by {layout} {dtype}"
    return remembered_rule(name, lambda: _try_matmul(batch, width, outputs, dtype, contiguous))


@torch.inference_mode()
def _try_matmul(batch: int, width: int, outputs: int, dtype: torch.dtype, contiguous: bool) -> RowRule | None:
    rows, weight = cancelling_product(max(_COUNTS) + _COMPARED, width, outputs, dtype)
    other = weight.t().contiguous() if contiguous else weight.t()
    if batch == 1:
        return find_rule(
            lambda first, count: (rows[first : first + count].clone() @ other,), _COUNTS, _COMPARED
        )
    others = other.expand(batch, -1, -1)
    others = others.contiguous() if contiguous else others.transpose(1, 2).contiguous().transpose(1, 2)

    def call(first: int, count: int) -> tuple[Tensor]:
        part = rows[first : first + count].expand(batch, -1, -1).contiguous()
        return (torch.bmm(part, others).transpose(0, 1),)

    return find_rule(call, _COUNTS, _COMPARED)


_REPLACEMENTS: dict[Any, Callable[..., Any]] = {
    torch.sigmoid: _composed(_sigmoid),
    torch.special.expit: _composed(_sigmoid),
    Tensor.sigmoid: _composed(_sigmoid),
    F.sigmoid: _composed(_sigmoid),
    Tensor.sigmoid_: _in_place(_sigmoid),
    torch.sigmoid_: _in_place(_sigmoid),
    F.silu: _composed(silu),
    F.gelu: _composed(_gelu),
    F.softplus: _composed(_softplus),
    F.mish: _composed(_mish),
    F.elu: _composed(_elu),
    F.selu: _composed(_selu),
    F.linear: _linear,
    torch.matmul: _matmul,
    Tensor.matmul: _matmul,
    Tensor.__matmul__: _matmul,
    torch.mm: _matmul,
    torch.bmm: _matmul,
    Tensor.bmm: _matmul,
    Tensor.mm: _matmul,
}
