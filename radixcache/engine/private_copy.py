"""An engine's own copy of a model, which it may change without anybody noticing."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

__all__ = ["private_copy"]


def private_copy(model: nn.Module, *, share_weights: bool) -> Any:
    """A copy of the module tree and configuration, in evaluation mode.

    Engines replace modules, keep state in them and set how attention is computed: two engines over one
    model, or its owner, must not meet in that. On a CPU most weights are packed into copies anyway, so there
    all are copied: an engine half of whose weights change with its owner's computes neither model.

    Args:
        model: left as it is.
        share_weights: parameters and buffers are those of `model`, as on a GPU, where memory is short; who
            changes them there changes what the engine computes.
    """
    shared = (
        {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())} if share_weights else {}
    )
    own: Any = copy.deepcopy(model, shared)
    return own.eval().requires_grad_(False) if not share_weights else own.eval()
