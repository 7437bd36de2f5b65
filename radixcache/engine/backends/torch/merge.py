"""Partial results over splits, merged by log-sum-exp in a fixed order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from radixcache.engine.backends.torch.prepared import PreparedPlan


def merge(plan: PreparedPlan, partials: Sequence[Tensor], sinks: Tensor | None) -> Tensor:
    """Merge partial results by log-sum-exp, as FlashDecoding does.

    Sums run over a binary tree on the split's position, so that absent splits, which weigh
    exactly 0, change no bit however many there are.

    Args:
        plan: whose `lse` is filled, -inf where a head row does not meet a split; its other buffers are used.
        partials: of each call `[rows_batch or splits, kv_heads, head rows, head_dim]`, finite everywhere.
        sinks: `[head rows]`, logits that join the denominator alone, or None.

    Returns:
        `[head rows, head_dim]`, which may be a view of `plan.outputs`.
    """
    if len(plan.lse) == 1 and sinks is None:
        plan.weights.fill_(1)
        _put(plan, partials)
        return plan.outputs[0]
    top = plan.lse.amax(0)
    if sinks is not None:
        top = torch.maximum(top, sinks)
    torch.sub(plan.lse, top, out=plan.weights).exp_()
    _put(plan, partials)
    total = _tree_sum(plan.weights)
    if sinks is not None:
        total = total + torch.exp(sinks - top)
    return _tree_sum(plan.outputs) / total.unsqueeze(-1)


def _put(plan: PreparedPlan, partials: Sequence[Tensor]) -> None:
    """Each call's results, weighted, in their places."""
    for call, partial in zip(plan.calls, partials, strict=True):
        places = call.places
        if isinstance(places, Tensor):
            weights = plan.weights.flatten().index_select(0, places)
            weighted = partial.reshape(-1, partial.shape[-1]) * weights.unsqueeze(-1)
            plan.outputs.flatten(0, 1).index_copy_(0, places, weighted)
        else:
            torch.mul(partial, places.weights.unsqueeze(-1), out=places.outputs)


def _tree_sum(terms: Tensor) -> Tensor:
    """Sum over the first dimension, in place: neighbours first, an odd last one waits its turn."""
    count, step = terms.shape[0], 1
    while step < count:
        terms[: count - step : 2 * step] += terms[step :: 2 * step]
        step *= 2
    return terms[0]
