"""Gated MLPs in few calls: one product for gate and up, the gate multiplied in place."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from radixcache.engine.cpu.fusion import joined_projection
from radixcache.engine.cpu.trials import trial_inputs


class FusedMLP(nn.Module):
    """`down(act(gate(x)) * up(x))`.

    Args:
        gate_up: linear layer whose outputs are those of gate and up, one after the other.
        act: makes a tensor of its own.
        down: the last linear layer.
    """

    def __init__(self, gate_up: nn.Module, act: nn.Module, down: nn.Module) -> None:
        super().__init__()
        self.gate_up = gate_up
        self.act = act
        self.down = down

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, -1)
        out: Tensor = self.down(self.act(gate).mul_(up))
        return out


@torch.inference_mode()
def fuse_gates(model: nn.Module) -> None:
    """Replace the model's gated MLPs whose projections are joined, those where a trial finds equal bits."""
    verdicts: dict[tuple[object, ...], bool] = {}
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            gate_up = joined_projection(getattr(child, "gate_proj", None))
            act, down = getattr(child, "act_fn", None), getattr(child, "down_proj", None)
            if gate_up is None or not isinstance(act, nn.Module) or not isinstance(down, nn.Linear):
                continue
            fused = FusedMLP(gate_up, act, down)
            key = (type(child), type(act), gate_up.weight.shape, gate_up.weight.dtype, _settings(child))
            if key not in verdicts:
                verdicts[key] = _equal(child, fused, gate_up)
            if verdicts[key]:
                setattr(parent, name, fused)


def _settings(module: nn.Module) -> tuple[tuple[str, object], ...]:
    """What may make one MLP of a class work otherwise than the next."""
    return tuple((name, v) for name, v in vars(module).items() if isinstance(v, bool | int | float | str))


def _equal(module: nn.Module, fused: FusedMLP, gate_up: nn.Linear) -> bool:
    try:
        return all(
            torch.equal(module(x), fused(x)) for x in trial_inputs(gate_up.in_features, gate_up.weight.dtype)
        )
    except (TypeError, ValueError, RuntimeError):  # an MLP that takes more than rows
        return False
