"""Top-k, top-p and min-p in torch, without sorting.

Shapes do not depend on values and no value is read back, so the host never waits for the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from radixcache.engine.sampling.weights import Cumulated, unit

_DIGITS = ((21, 2048), (10, 2048), (0, 1024))  # lowest bit and number of values, from the top of 32 bits


def ordered(logits: Tensor) -> Tensor:
    """Integers (int32) in the order of the floats `logits` (float32); -0 and 0 are one."""
    bits = (logits + 0.0).view(torch.int32)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def truncated(
    logits: Tensor, weights: Tensor, *, top_k: Tensor | None, top_p: Tensor | None, min_p: Tensor | None
) -> Tensor:
    """Weights of the tokens that top-k, then top-p, then min-p leave; 0 for the others.

    Tokens are ranked by logit, the lower id first among equals. The nucleus (Holtzman et al. 2020) is the
    shortest run of the best tokens whose probabilities reach `top_p`, of the distribution that top-k leaves.

    Args:
        logits: [rows, vocab] (float32).
        weights: [rows, vocab] (float32), as `weights.weights` makes them.
        top_k: [rows] (float64), the size of the vocabulary at most; None if no row has one.
        top_p, min_p: [rows] (float64); None if no row has one.
    """
    keys = ordered(logits) if top_k is not None or top_p is not None else None
    if keys is not None and top_k is not None:
        weights = torch.where(_best(keys, torch.ones_like(weights), top_k), weights, 0)
    if keys is not None and top_p is not None:
        weights = torch.where(_best(keys, weights, top_p * Cumulated(weights).total), weights, 0)
    if min_p is not None:
        least = min_p.float() * unit(logits.shape[-1])
        weights = torch.where(weights >= least[:, None], weights, 0)
    return weights


def most_likely(logits: Tensor, count: int) -> Tensor:
    """Ids [rows, count] of the highest logits, highest first, the lower id first among equals."""
    ids = torch.arange(logits.shape[-1], device=logits.device)
    # No two of these are equal, so that every algorithm finds the same.
    unique = (ordered(logits).long() << 32) | (0x7FFFFFFF - ids)
    return 0x7FFFFFFF - (unique.topk(count).values & 0x7FFFFFFF)


def _best(keys: Tensor, weights: Tensor, need: Tensor) -> Tensor:
    """The shortest run of the best tokens whose weights sum to `need` [rows], as a mask [rows, vocab].

    The key of its last token is found digit by digit: a histogram of weights says in which value of the
    digit the sum reaches `need`. All sums are exact, so the order of atomic additions does not matter.
    """
    matching = torch.ones_like(keys, dtype=torch.bool)
    last = torch.zeros(len(keys), 1, dtype=torch.int64, device=keys.device)
    for shift, size in _DIGITS:
        rising = keys.bitwise_xor(-(2**31)) >> shift  # the sign bit first, as of unsigned numbers
        falling = (size - 1 - (rising & (size - 1))).long()
        sums = torch.zeros(len(keys), size, dtype=torch.float64, device=keys.device)
        sums.scatter_add_(1, falling, torch.where(matching, weights, 0).double())
        ends = sums.cumsum(-1)
        found = (ends < need[:, None]).sum(-1, keepdim=True).clamp_(max=size - 1)
        need = need - (ends.gather(-1, found) - sums.gather(-1, found))[:, 0]
        matching &= falling == found
        last = last * size + (size - 1 - found)
    # Of equals at the end of the run the lower ids are in it.
    end = Cumulated(torch.where(matching, weights, 0)).reach(need)
    ids = torch.arange(keys.shape[-1], device=keys.device)
    return (keys > last - 2**31) | (matching & (ids <= end[:, None]))
