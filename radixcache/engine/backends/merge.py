"""Partial results over splits, merged by log-sum-exp in a fixed order."""

from __future__ import annotations

import torch
from torch import Tensor


def merge(outputs: Tensor, lse: Tensor, sinks: Tensor | None) -> Tensor:
    """Merge partial results by log-sum-exp, as FlashDecoding does.

    Sums run over a binary tree on the split's position, so that absent splits, which weigh
    exactly 0, change no bit however many there are.

    Args:
        outputs: `[depth, lines, head_dim]`, finite everywhere; overwritten, but absent places,
            which are zero, stay so.
        lse: `[depth, lines]`, -inf where a line does not meet a split.
        sinks: `[lines]`, logits that join the denominator alone, or None.

    Returns:
        `[lines, head_dim]`, which may be a view of `outputs`.
    """
    if outputs.shape[0] == 1 and sinks is None:
        return outputs[0]
    top = lse.amax(0)
    if sinks is not None:
        top = torch.maximum(top, sinks)
    weights = torch.exp(lse - top)
    outputs.mul_(weights.unsqueeze(-1))
    total = _tree_sum(weights)
    if sinks is not None:
        total = total + torch.exp(sinks - top)
    return _tree_sum(outputs) / total.unsqueeze(-1)


def _tree_sum(terms: Tensor) -> Tensor:
    """Sum over the first dimension, in place: neighbours first, an odd last one waits its turn."""
    count, step = terms.shape[0], 1
    while step < count:
        terms[: count - step : 2 * step] += terms[step :: 2 * step]
        step *= 2
    return terms[0]
