"""Tests whether a row's logits depend on the batch, for a given model on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from radixcache.engine.step import SequenceRows

__all__ = ["TRIAL_TOKENS", "differing_rows"]

_LENGTH, _NEIGHBOUR = 45, 33
_CHUNKS = (1, 2, 3, 1, 7, 12, 19)
TRIAL_TOKENS = 3 * 64
"""Tokens of KV memory that a trial needs."""

Forward = Callable[[Sequence[SequenceRows]], Tensor]


def differing_rows(forward: Forward, vocabulary: int, block_size: int) -> int:
    """Rows of a random prompt whose logits differ, in any bit, when it is computed in other company.

    Args:
        forward: computes a step and keeps its KV, as `ModelRunner.forward`; its pool has room for
            `TRIAL_TOKENS` tokens and no other user.
        vocabulary: ids below this are drawn.
        block_size: tokens a block.

    The prompt goes alone and whole, then in chunks of many sizes, then between neighbours.
    """
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocabulary, (_LENGTH + _NEIGHBOUR,), generator=generator).tolist()
    prompt, other = ids[:_LENGTH], ids[_LENGTH:]
    span = -(-64 // block_size)
    tables = [list(range(first * span, (first + 1) * span)) for first in range(3)]
    alone = forward([SequenceRows(prompt, 0, tables[0], _LENGTH)]).clone()
    differing = torch.zeros(_LENGTH, dtype=torch.bool)
    start = 0
    for count in _CHUNKS:
        rows = forward([SequenceRows(prompt[start : start + count], start, tables[1], count)])
        differing[start : start + count] |= _unequal(rows, alone[start : start + count])
        start += count
    for before, length in ((True, 1), (True, _NEIGHBOUR), (False, 2)):
        neighbour = SequenceRows(other[:length], 0, tables[2], 1)
        own = SequenceRows(prompt, 0, tables[1], _LENGTH)
        rows = forward([neighbour, own] if before else [own, neighbour])
        differing |= _unequal(rows[1:] if before else rows[:-1], alone)
    return int(differing.sum())


def _unequal(rows: Tensor, others: Tensor) -> Tensor:
    same = (rows == others) | (rows.isnan() & others.isnan())
    return ~same.all(-1).cpu()
