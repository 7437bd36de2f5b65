"""The calls of the fused kernel that a step makes, worked out once a step.

Which rows attend to which split together is decided in `radixcache_kernels.splits`, as for the kernels of a
GPU; here its items are put into few calls.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radixcache.engine.backends.tables import StepTables
from radixcache_kernels.splits import SplitRule, find_splits, lowest_splits

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

# From this many rows on, the splits that one set of rows meets are attended in a separate call,
# the rows being expanded over them instead of copied once for each.
_WIDE_ROWS = 32


class SplitCall(NamedTuple):
    """One call of the fused kernel: stretches of the pool against `n` rows each.

    Attributes:
        rows: int64 `[rows_batch, n]`, indices of query rows; rows_batch is 1 when all splits
            meet the same rows.
        blocks: int64 `[splits, blocks a stretch]`, what to gather.
        run: the blocks are consecutive, in order: they can be read in place.
        length: tokens a stretch.
        mask: additive `[splits, 1, n, length]` or None where every row sees the whole split.
        targets: int64 `[splits, n]`, place of each partial in the merge buffer, which is
            ordered by (split counted from the row's first, row).
        last: int64 `[splits]`, place of the last row within each split; None without a mask.
    """

    rows: IntArray
    blocks: IntArray
    run: bool
    length: int
    mask: Tensor | None
    targets: IntArray
    last: IntArray | None


class SplitPlan(NamedTuple):
    """The calls of a step and the size of their merge buffer.

    Attributes:
        calls: in no particular order; each fills its own targets.
        depth: splits that the deepest row meets.
        shallow: splits that every row meets; those places of the merge buffer are all filled.
    """

    calls: list[SplitCall]
    depth: int
    shallow: int


class SplitPlanner:
    """Plans each step's calls; of a batch of decodes that only grew by a token it keeps the last plan's."""

    def __init__(self, rule: SplitRule, lengths: tuple[int, ...]) -> None:
        """Plan for layers of one window.

        Args:
            rule: how keys are cut; its block size divides a split.
            lengths: how much of a split that is not full may be read, ascending to `rule.split`.
        """
        self._rule, self._lengths = rule, lengths
        self._step: StepTables | None = None
        self._work: _Work

    def plan(self, step: StepTables) -> SplitPlan:
        """Group a step's (row, split) pairs into few fused calls.

        Args:
            step: its sequences, with tables as wide as a whole number of splits.
        """
        if self._only_grew(step):
            self._work.advance()
        else:
            self._work = _Work(step, self._rule, self._lengths)
        self._step = step
        return self._work.plan()

    def _only_grew(self, step: StepTables) -> bool:
        """Whether each sequence has one new token, as in the last step, within splits and blocks it had."""
        last = self._step
        if last is None or self._rule.window is not None or len(step.lengths) != len(last.lengths):
            return False
        if step.starts[-1] != len(step.lengths) or last.starts[-1] != len(last.lengths):
            return False
        if not np.array_equal(step.lengths, last.lengths + 1) or (step.lengths % self._rule.split <= 1).any():
            return False
        return np.array_equal(step.starts, last.starts) and np.array_equal(step.tables, last.tables)


class _Items(NamedTuple):
    """Some items of the step.

    Attributes:
        split, sequence: int64 `[items]`, which split to read, and of whose blocks.
        first, rows: int64 `[items]`, where their rows are in `_Work.members`, and how many.
        rows_id: int64 `[items]`, equal for items with the same rows.
    """

    split: IntArray
    sequence: IntArray
    first: IntArray
    rows: IntArray
    rows_id: IntArray

    def take(self, index: IntArray | BoolArray | slice) -> _Items:
        return _Items(*(part[index] for part in self))


class _Work:
    """The items of a step and the calls made of them.

    Attributes:
        positions: int64 `[rows]`, of each query row.
        lowest: int64 `[rows]`, the first split that it meets. It is a matter of the row's own position, so
            the merge order of its partials is too.
        members: int64, query rows of all items, each item's ascending.
    """

    def __init__(self, step: StepTables, rule: SplitRule, lengths: tuple[int, ...]) -> None:
        self._tables, self._rule, self._lengths = step.tables, rule, lengths
        held, starts = step.lengths.astype(np.int64), step.starts.astype(np.int64)
        counts = np.diff(starts)
        order, rows, items = find_splits(step.tables, held, starts, np.flatnonzero(counts > 0), rule)
        query_rows = rows[:, 0].astype(np.int64)
        self.positions = np.empty(len(rows), dtype=np.int64)
        self.positions[query_rows] = (held - counts - starts[:-1])[rows[:, 1]] + query_rows
        self.lowest = lowest_splits(self.positions, rule)
        split, first, number, sequence = items.T
        ends = np.cumsum(number)
        inner = np.arange(ends[-1]) - np.repeat(ends - number, number)
        self.members = query_rows[np.repeat(first, number) + inner]
        if (np.diff(order.sequences) < 0).any():
            owner = np.repeat(np.arange(len(items)) * len(rows), number)
            self.members = np.sort(owner + self.members) - owner
        # Items with the same rows have the same run of ordered rows.
        self._items = _Items(split, sequence, ends - number, number, first * (len(rows) + 1) + number)

        seen = self.positions[self.members]
        left = self._items.split * rule.split
        whole = np.minimum.reduceat(seen, self._items.first) >= left + rule.split - 1
        if rule.window is not None:
            whole &= np.maximum.reduceat(seen, self._items.first) < left + rule.window
        self._whole = self._whole_calls(self._ordered(self._items.take(whole))) if whole.any() else []
        masked = self._ordered(self._items.take(~whole))
        self._masked = [masked.take(masked.rows == count) for count in np.unique(masked.rows)]

    def advance(self) -> None:
        """Every row is a token further, in the same splits."""
        self.positions = self.positions + 1

    def plan(self) -> SplitPlan:
        """The calls for the rows where they are."""
        calls = [*self._whole, *(self._masked_call(items) for items in self._masked)]
        splits = self.positions // self._rule.split - self.lowest + 1
        return SplitPlan(calls, int(splits.max()), int(splits.min()))

    def _ordered(self, items: _Items) -> _Items:
        """By their first row, those with the same rows together: rows in order are read in place."""
        return items.take(np.lexsort((items.split, items.rows_id, self.members[items.first])))

    def _whole_calls(self, items: _Items) -> list[SplitCall]:
        """Calls of items all of whose rows see all of the split.

        Splits with the same rows that follow each other in the pool make a call, and so do those of one set
        of many rows; of what remains, all items with few rows of equal number do.
        """
        blocks = self._blocks(items)
        same = items.rows_id[1:] == items.rows_id[:-1]
        follows = same & (blocks[1:, 0] == blocks[:-1, -1] + 1)
        begins = np.flatnonzero(np.append(True, ~follows))
        lengths = np.diff(np.append(begins, len(blocks)))
        in_place = np.logical_and.reduceat(_are_runs(blocks), begins) & (lengths > 1)
        parts = [
            np.arange(first, first + length)
            for first, length in zip(begins[in_place].tolist(), lengths[in_place].tolist(), strict=True)
        ]
        rest = np.flatnonzero(~np.repeat(in_place, lengths))
        wide = items.rows[rest] >= _WIDE_ROWS
        parts += _cut(rest[wide], items.rows_id[rest[wide]])
        calls = [self._whole_call(items.take(part), blocks[part], together=True) for part in parts]
        narrow = rest[~wide]
        for count in np.unique(items.rows[narrow]):
            part = narrow[items.rows[narrow] == count]
            together = bool((items.rows_id[part] == items.rows_id[part[0]]).all())
            calls.append(self._whole_call(items.take(part), blocks[part], together=together))
        return calls

    def _whole_call(self, items: _Items, blocks: IntArray, *, together: bool) -> SplitCall:
        """The call of items with rows of equal number; `together`: with the same rows."""
        rows = self._rows(items.take(slice(0, 1)) if together else items)
        targets = self._targets(items.split, rows)
        return SplitCall(rows, blocks, _is_run(blocks), self._rule.split, None, targets, None)

    def _masked_call(self, items: _Items) -> SplitCall:
        """The call of items of which some row does not see all of the split; rows of equal number."""
        rule, rows = self._rule, self._rows(items)
        positions = self.positions[rows]
        left = items.split * rule.split
        last = positions.max(1) - left
        needed = int(min(last.max() + 1, rule.split))
        length = next(n for n in self._lengths if n >= needed and n % rule.block_size == 0)
        blocks = self._blocks(items)[:, : length // rule.block_size]
        keys = (left[:, None] + np.arange(length))[:, None, :]
        hidden = keys > positions[:, :, None]
        if rule.window is not None:
            hidden |= keys <= positions[:, :, None] - rule.window
        mask = torch.from_numpy(np.where(hidden, np.float32(-np.inf), np.float32(0))).unsqueeze(1)
        targets = self._targets(items.split, rows)
        return SplitCall(rows, blocks, _is_run(blocks), length, mask, targets, last)

    def _rows(self, items: _Items) -> IntArray:
        """`[items, n]` query rows of items with `n` rows each."""
        rows: IntArray = self.members[items.first[:, None] + np.arange(items.rows[0])]
        return rows

    def _blocks(self, items: _Items) -> IntArray:
        """`[items, blocks a split]`."""
        each = self._rule.split // self._rule.block_size
        by_split = self._tables.reshape(len(self._tables), -1, each)
        blocks: IntArray = by_split[items.sequence, items.split].astype(np.int64)
        return blocks

    def _targets(self, splits: IntArray, rows: IntArray) -> IntArray:
        targets: IntArray = (splits[:, None] - self.lowest[rows]) * len(self.lowest) + rows
        return targets


def _cut(index: IntArray, keys: IntArray) -> list[IntArray]:
    """The index in pieces of equal keys, which are neighbours."""
    if not len(index):
        return []
    return np.split(index, np.flatnonzero(keys[1:] != keys[:-1]) + 1)


def _are_runs(blocks: IntArray) -> BoolArray:
    """`[n]`, whether the blocks of each split are consecutive."""
    runs: BoolArray = (np.diff(blocks, axis=1) == 1).all(1)
    return runs


def _is_run(blocks: IntArray) -> bool:
    return bool((np.diff(blocks.ravel()) == 1).all())
