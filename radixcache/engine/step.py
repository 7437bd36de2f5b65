"""One engine step, flattened: every sequence's new tokens as one row of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch


class SequenceRows(NamedTuple):
    """The new tokens of one sequence in a step.

    Attributes:
        tokens: ids of the new tokens.
        start: position of the first of them; everything before it is in the pool.
        block_table: block of every `block_size` positions, covering the new tokens too.
        keep: how many of the last rows need logits (0 while a prompt is not yet complete).
    """

    tokens: Sequence[int]
    start: int
    block_table: Sequence[int]
    keep: int


class StepBatch:
    """All sequences of a step as flat tensors.

    Attributes:
        sequences: the parts, in row order.
        num_rows: rows that stand for a token.
        token_ids, positions: int64 `[padded rows]`; padding repeats token 0 at position 0.
        slots: int64 `[num_rows]`, where each row's keys and values go in the pool.
        keep_rows: int64 `[kept rows, padded]`, rows whose logits are wanted.
        num_kept: kept rows that are real.
    """

    def __init__(
        self,
        sequences: Sequence[SequenceRows],
        block_size: int,
        *,
        row_multiple: int = 1,
        device: torch.device,
    ) -> None:
        self.sequences = sequences
        counts = [len(item.tokens) for item in sequences]
        self.num_rows = sum(counts)
        padded = _round_up(self.num_rows, row_multiple)
        token_ids = np.zeros(padded, dtype=np.int64)
        positions = np.zeros(padded, dtype=np.int64)
        slots = np.empty(self.num_rows, dtype=np.int64)
        keep: list[int] = []
        first = 0
        for item, count in zip(sequences, counts, strict=True):
            last = first + count
            token_ids[first:last] = item.tokens
            if count == 1:
                positions[first] = item.start
                slots[first] = (
                    item.block_table[item.start // block_size] * block_size + item.start % block_size
                )
            else:
                where = np.arange(item.start, item.start + count)
                table = np.asarray(item.block_table, dtype=np.int64)
                positions[first:last] = where
                slots[first:last] = table[where // block_size] * block_size + where % block_size
            keep.extend(range(last - item.keep, last))
            first = last
        self.num_kept = len(keep)
        # A model always returns some logits: a step that wants none keeps row 0 and drops it.
        keep.extend([0] * (max(_round_up(len(keep), row_multiple), 1) - len(keep)))
        self.token_ids = torch.from_numpy(token_ids).to(device)
        self.positions = torch.from_numpy(positions).to(device)
        self.slots = torch.from_numpy(slots).to(device)
        self.keep_rows = torch.tensor(keep, dtype=torch.int64, device=device)


def _round_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
