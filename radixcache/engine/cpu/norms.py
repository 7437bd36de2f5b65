"""Root-mean-square norms in few operations.

Models write the norm out as six or seven operations, and so does torch: each goes over the step's rows once,
and with few rows each costs more to start than to do.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from radixcache.engine.cpu.trials import trial_inputs

# The second is so small that eps decides.
_TRIED_SIZES = (1.0, 1e-3)


class FusedRMSNorm(nn.Module):
    """`x / sqrt(mean(x ** 2) + eps) * weight`, each row on its own, so that others change none of its bits.

    Args:
        weight: `[width]`; half types are computed in float32 and rounded before the weight, as models do.
        eps: added to the mean.
    """

    def __init__(self, weight: nn.Parameter, eps: float) -> None:
        super().__init__()
        self.weight = weight
        # Not parameters: looking those up in a module costs as much as one of the operations.
        self._plain = (weight.detach(), torch.tensor(eps, dtype=torch.float32), 1.0 / weight.shape[0])

    def forward(self, x: Tensor) -> Tensor:
        weight, eps, share = self._plain
        wide = x if x.dtype is torch.float32 else x.float()
        length = torch.linalg.vector_norm(wide, 2, -1, True)
        out = wide * torch.addcmul(eps, length, length, value=share).rsqrt_()
        if out.dtype is not x.dtype:
            out = out.to(x.dtype)
        return out.mul_(weight)


@torch.inference_mode()
def fuse_norms(model: nn.Module) -> None:
    """Replace the model's RMS norms, those that a trial finds to be of this formula."""
    verdicts: dict[tuple[object, ...], bool] = {}
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            weight = getattr(child, "weight", None)
            eps = getattr(child, "variance_epsilon", getattr(child, "eps", None))
            if (
                not type(child).__name__.endswith("RMSNorm")
                or isinstance(child, FusedRMSNorm)
                or not isinstance(weight, nn.Parameter)
                or not isinstance(eps, float)
            ):
                continue
            key = (type(child), weight.shape, weight.dtype, eps)
            if key not in verdicts:
                verdicts[key] = _is_of_the_formula(child, weight.shape[0], weight.dtype, eps)
            if verdicts[key]:
                setattr(parent, name, FusedRMSNorm(weight, eps))


def _is_of_the_formula(module: nn.Module, width: int, dtype: torch.dtype, eps: float) -> bool:
    """Whether it gives the same up to rounding, with weights that are not all the same."""
    module = copy.deepcopy(module)
    weight = torch.randn(width, generator=torch.Generator().manual_seed(1)).to(dtype)
    module.weight.copy_(weight)  # type: ignore[operator]
    fused = FusedRMSNorm(nn.Parameter(weight, requires_grad=False), eps)
    close = 16 * torch.finfo(dtype).eps
    return all(
        torch.allclose(module(x), fused(x), rtol=close, atol=close)
        for x in trial_inputs(width, dtype, sizes=_TRIED_SIZES)
    )
