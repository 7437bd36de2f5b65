"""One engine step, flattened: every sequence's new tokens as one row of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from radixcache.engine.staging import IntArray, to_device

if TYPE_CHECKING:
    from radixcache.engine.cuda.buffers import StaticBuffers


class SequenceRows(NamedTuple):
    """The new tokens of one sequence in a step.

    Attributes:
        tokens: ids of the new tokens.
        start: position of the first of them; everything before it is in the pool.
        block_table: block of every `block_size` positions, covering the new tokens too.
        keep: how many of the last rows need logits (0 while a prompt is not yet complete).
    """

    tokens: Sequence[int] | IntArray
    start: int
    block_table: Sequence[int] | IntArray
    keep: int


class StepBatch:
    """All sequences of a step as flat tensors.

    A step that is recorded and replayed has one row a sequence and is padded to a fixed number of
    sequences: padding has token 0 at position 0, slot -1, no tokens to attend to.

    Attributes:
        sequences: the parts, in row order.
        num_rows: rows that stand for a token, or for a padded sequence of a recorded step.
        token_ids, positions: int64 `[padded rows]`; padding repeats token 0 at position 0.
        slots: int64 `[num_rows]`, where each row's keys and values go in the pool; -1: nowhere.
        keep_rows: int64 `[kept rows, padded]`, rows whose logits are wanted.
        num_kept: kept rows that are real, or all of them in a recorded step.
        fixed: the step is recorded and replayed: shapes must depend on `num_lines` and
            `table_width` alone, and so must every Python value that reaches the device.
        num_lines: sequences, padding included.
        table_width: blocks of the widest block table, or those a recorded step has room for.
    """

    def __init__(
        self,
        sequences: Sequence[SequenceRows],
        block_size: int,
        *,
        row_multiple: int = 1,
        device: torch.device,
        buffers: StaticBuffers | None = None,
    ) -> None:
        self.sequences = sequences
        self.fixed = buffers is not None
        self._buffers = buffers
        self._device = device
        counts = [len(item.tokens) for item in sequences]
        real = sum(counts)
        if buffers is None:
            self.num_rows, self.num_lines = real, len(counts)
            self.table_width = max((len(item.block_table) for item in sequences), default=0)
            padded = _round_up(real, row_multiple)
        else:
            self.num_rows = self.num_lines = padded = buffers.lines
            self.table_width = buffers.table_width
        token_ids = np.zeros(padded, dtype=np.int64)
        positions = np.zeros(padded, dtype=np.int64)
        slots = np.full(self.num_rows, -1, dtype=np.int64)
        keep: list[int] = []
        first = 0
        for item, count in zip(sequences, counts, strict=True):
            last = first + count
            if count == 1:
                token_ids[first] = item.tokens[0]
                positions[first] = item.start
                slots[first] = (
                    item.block_table[item.start // block_size] * block_size + item.start % block_size
                )
            else:
                token_ids[first:last] = item.tokens
                where = np.arange(item.start, item.start + count)
                table = np.asarray(item.block_table, dtype=np.int64)
                positions[first:last] = where
                slots[first:last] = table[where // block_size] * block_size + where % block_size
            keep.extend(range(last - item.keep, last))
            first = last
        if self.fixed:
            keep = list(range(padded))
        self.num_kept = len(keep)
        # A model always returns some logits: a step that wants none keeps row 0 and drops it.
        keep.extend([0] * (max(_round_up(len(keep), row_multiple), 1) - len(keep)))
        self.token_ids = self.upload("token_ids", token_ids)
        self.positions = self.upload("positions", positions)
        self.slots = self.upload("slots", slots)
        self.keep_rows = self.upload("keep_rows", np.asarray(keep, dtype=np.int64))

    def upload(self, name: str, array: IntArray) -> Tensor:
        """The array on the device, without waiting; in a recorded step always in the same tensor.

        Args:
            name: of the array; each name stands for one array of a step.
            array: not written to afterwards.

        Raises:
            ValueError: the shape or dtype is not the one that the step was recorded with.
        """
        if self._buffers is None:
            return to_device(array, self._device)
        return self._buffers.put(name, array)


def _round_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
