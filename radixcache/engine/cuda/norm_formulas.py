"""Norms as the kernels compute them, in place of modules that a trial finds to be of their formula."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from radixcache.engine.cpu.trials import trial_inputs
from radixcache_kernels import invariant_layer_norm, invariant_rms_norm

# The second is so small that eps decides.
_TRIED_SIZES = (1.0, 1e-3)
_TRIED_ROWS = 3
_EPS_NAMES = ("variance_epsilon", "eps", "epsilon")


@dataclass(frozen=True, slots=True)
class NormFormula:
    """How a norm computes.

    Attributes:
        centre: a layer norm; otherwise a root-mean-square norm, with the two below.
        offset: added to the weight.
        round_first: rounds to the input's dtype before the weight, too.
    """

    centre: bool = False
    offset: float = 0.0
    round_first: bool = False


# Llama's and its many copies; torch's own, with a weight in float32; Gemma's; the layer norm.
_FORMULAS = (
    NormFormula(round_first=True),
    NormFormula(),
    NormFormula(offset=1.0),
    NormFormula(centre=True),
)


class InvariantNorm(nn.Module):
    """A norm over the last dimension, a row's bits independent of all other rows.

    Args:
        weight: `[width]`, shared with the norm that this one replaces.
        bias: `[width]` or None.
        eps: added to the mean of squares.
        formula: see `NormFormula`.
        dtype: of what it is given.
    """

    def __init__(
        self,
        weight: nn.Parameter,
        bias: nn.Parameter | None,
        eps: float,
        formula: NormFormula,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.width = len(weight)
        self.dtype = dtype
        self.weight = weight
        self.bias = bias
        self.eps = eps
        self.formula = formula

    def forward(self, x: Tensor) -> Tensor:
        if self.formula.centre:
            return invariant_layer_norm(x, self.weight, self.bias, self.eps)
        return invariant_rms_norm(
            x, self.weight, self.eps, offset=self.formula.offset, round_first=self.formula.round_first
        )


class NormFinder:
    """Finds the formulas of a model's norms, by trial, once for all that are alike.

    Args:
        dtype: of what the norms are given.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._known: dict[tuple[object, ...], NormFormula | None] = {}

    def replacement(self, module: nn.Module) -> InvariantNorm | None:
        """What computes the same up to rounding; None if the module is no norm of a known formula."""
        eps = next((getattr(module, name) for name in _EPS_NAMES if hasattr(module, name)), None)
        weight, bias = (getattr(module, name, None) for name in ("weight", "bias"))
        if "Norm" not in type(module).__name__ or not isinstance(eps, float):
            return None
        if not isinstance(weight, nn.Parameter) or weight.ndim != 1:
            return None
        if bias is not None and not isinstance(bias, nn.Parameter):
            return None
        key = (type(module), weight.shape, weight.dtype, bias is None, eps)
        if key not in self._known:
            self._known[key] = self._formula(module, weight, bias, eps)
        formula = self._known[key]
        return None if formula is None else InvariantNorm(weight, bias, eps, formula, self._dtype)

    def _formula(
        self, module: nn.Module, weight: nn.Parameter, bias: nn.Parameter | None, eps: float
    ) -> NormFormula | None:
        """The formula nearest to what the module computes, with weights that are not all the same."""
        trial = copy.deepcopy(module)
        generator = torch.Generator().manual_seed(1)
        weight, bias = copy.deepcopy(weight), copy.deepcopy(bias)
        for parameter in (weight, bias):
            if parameter is not None:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        trial.weight = weight
        if bias is not None:
            trial.bias = bias
        close = 16 * torch.finfo(self._dtype).eps
        inputs = [
            x[:, :_TRIED_ROWS].to(weight.device)
            for x in trial_inputs(len(weight), self._dtype, sizes=_TRIED_SIZES)
        ]
        try:
            wanted = [trial(x) for x in inputs]
        except Exception:  # it takes more than its input
            return None
        found: list[tuple[float, int]] = []
        for place, formula in enumerate(_FORMULAS):
            if bias is not None and not formula.centre:
                continue
            norm = InvariantNorm(weight, bias, eps, formula, self._dtype)
            off = 0.0
            for x, output in zip(inputs, wanted, strict=True):
                given = norm(x)
                if not _close(given, output, close):
                    break
                off += float((given - output).abs().sum())
            else:
                found.append((off, place))
        return _FORMULAS[min(found)[1]] if found else None


def _close(given: Tensor, wanted: object, tolerance: float) -> bool:
    return (
        isinstance(wanted, Tensor)
        and given.dtype == wanted.dtype
        and given.shape == wanted.shape
        and torch.allclose(given, wanted, rtol=tolerance, atol=tolerance)
    )
