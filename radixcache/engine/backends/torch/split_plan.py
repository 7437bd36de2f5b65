"""Which rows of a step meet which split of which sequence, worked out once a step.

Every sequence's keys and values are cut at fixed absolute positions, every `SPLIT` tokens.
A row's partial result over one split depends on that row and that split alone, and partials
are merged in position order: so a row's attention is the same in any batch, with any cached
length and whoever shares its prefix. (The fixed cuts follow the batch-invariant kernels of
Thinking Machines' batch_invariant_ops; reading a shared split once for all its rows follows
ChunkAttention and FlashInfer's cascade, here for sharing at any depth.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radixcache.engine.step import SequenceRows
from radixcache.numerics.attention import SPLIT, SPLIT_LENGTHS

IntArray = NDArray[np.int64]

# From this many rows on, the splits that one set of rows meets are attended in a call of their
# own, the rows being expanded over them instead of copied once for each.
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


class _Item(NamedTuple):
    split: int
    blocks: tuple[int, ...]
    rows: list[int]


class _MaskedItem(NamedTuple):
    split: int
    blocks: tuple[int, ...]
    first_row: int
    positions: range


def plan_splits(
    sequences: Sequence[SequenceRows],
    block_size: int,
    null_block: int,
    *,
    window: int | None,
    lengths: tuple[int, ...] = SPLIT_LENGTHS,
    share: bool = True,
) -> SplitPlan:
    """Group a step's (row, split) pairs into few fused calls.

    Args:
        sequences: the parts of the step in row order.
        block_size: divides SPLIT.
        null_block: pads the last split's blocks.
        window: sliding window of the layers planned for.
        lengths: how much of a split that is not full may be read, ascending to SPLIT.
        share: read a split that several sequences hold once for all of them.
    """
    whole, masked = _collect(sequences, block_size, window, share)
    positions = np.concatenate([np.arange(item.start, item.start + len(item.tokens)) for item in sequences])
    # A row's first split is a matter of its own position, so the merge order of its partials is too.
    lowest = np.zeros_like(positions) if window is None else np.maximum(positions - window + 1, 0) // SPLIT
    calls = [_whole_call(rows, group, lowest) for rows, group in _by_rows(whole)]
    by_count: dict[int, list[_MaskedItem]] = {}
    for item in masked:
        by_count.setdefault(len(item.positions), []).append(item)
    calls.extend(
        _masked_call(group, lowest, block_size, null_block, window, lengths) for group in by_count.values()
    )
    splits = positions // SPLIT - lowest + 1
    return SplitPlan(calls, int(splits.max()), int(splits.min()))


def _collect(
    sequences: Sequence[SequenceRows], block_size: int, window: int | None, share: bool
) -> tuple[list[_Item], list[_MaskedItem]]:
    """Pairs of split and rows: those where every row sees all of the split, and the others."""
    per_split = SPLIT // block_size
    whole: dict[object, _Item] = {}
    masked: list[_MaskedItem] = []
    first_row = 0
    for number, (tokens, start, table, _) in enumerate(sequences):
        end = start + len(tokens)
        lowest = 0 if window is None else max(0, start - window + 1) // SPLIT
        for split in range(lowest, (end - 1) // SPLIT + 1):
            left, right = split * SPLIT, (split + 1) * SPLIT
            first = max(start, left)
            last = end if window is None else min(end, right + window - 1)
            blocks = tuple(table[split * per_split : (split + 1) * per_split])
            if first >= right - 1 and (window is None or last <= left + window):
                rows = range(first_row + first - start, first_row + last - start)
                key = (split, blocks) if share else (split, number)
                if key in whole:
                    whole[key].rows.extend(rows)
                else:
                    whole[key] = _Item(split, blocks, list(rows))
            else:
                masked.append(_MaskedItem(split, blocks, first_row + first - start, range(first, last)))
        first_row += len(tokens)
    return list(whole.values()), masked


def _by_rows(items: list[_Item]) -> list[tuple[list[list[int]], list[_Item]]]:
    """Items that go in one call: a run of splits with the same rows, or few rows of equal number."""
    same: dict[tuple[int, ...], list[_Item]] = {}
    for item in items:
        same.setdefault(tuple(item.rows), []).append(item)
    groups: list[tuple[list[list[int]], list[_Item]]] = []
    narrow: dict[int, list[_Item]] = {}
    for rows, members in same.items():
        runs, rest = _runs(members)
        groups.extend(([list(rows)], run) for run in runs)
        if rest and len(rows) >= _WIDE_ROWS:
            groups.append(([list(rows)], rest))
        elif rest:
            narrow.setdefault(len(rows), []).extend(rest)
    groups.extend(([item.rows for item in group], group) for group in narrow.values())
    return groups


def _runs(items: list[_Item]) -> tuple[list[list[_Item]], list[_Item]]:
    """Longest stretches of items whose blocks follow each other in the pool, and what is left."""
    stretches: list[list[_Item]] = []
    for item in items:
        if stretches and stretches[-1][-1].blocks[-1] + 1 == item.blocks[0]:
            stretches[-1].append(item)
        else:
            stretches.append([item])
    runs: list[list[_Item]] = []
    rest: list[_Item] = []
    for stretch in stretches:
        blocks = np.asarray([item.blocks for item in stretch], dtype=np.int64)
        if len(stretch) > 1 and _is_run(blocks):
            runs.append(stretch)
        else:
            rest.extend(stretch)
    return runs, rest


def _whole_call(rows: list[list[int]], items: list[_Item], lowest: IntArray) -> SplitCall:
    index = np.asarray(rows, dtype=np.int64)
    blocks = np.asarray([item.blocks for item in items], dtype=np.int64)
    splits = np.asarray([item.split for item in items], dtype=np.int64)
    return SplitCall(index, blocks, _is_run(blocks), SPLIT, None, _targets(splits, index, lowest), None)


def _masked_call(
    items: list[_MaskedItem],
    lowest: IntArray,
    block_size: int,
    null_block: int,
    window: int | None,
    lengths: tuple[int, ...],
) -> SplitCall:
    steps = np.arange(len(items[0].positions))
    rows = np.asarray([item.first_row for item in items])[:, None] + steps
    positions = np.asarray([item.positions.start for item in items])[:, None] + steps
    splits = np.asarray([item.split for item in items])
    last = positions[:, -1] - splits * SPLIT
    needed = int(min(last.max() + 1, SPLIT))
    length = next(length for length in lengths if length >= needed and length % block_size == 0)
    blocks = np.full((len(items), length // block_size), null_block, dtype=np.int64)
    for line, item in zip(blocks, items, strict=True):
        line[: len(item.blocks)] = item.blocks[: len(line)]
    keys = (splits[:, None] * SPLIT + np.arange(length))[:, None, :]
    hidden = keys > positions[:, :, None]
    if window is not None:
        hidden |= keys <= positions[:, :, None] - window
    mask = torch.from_numpy(np.where(hidden, np.float32(-np.inf), np.float32(0))).unsqueeze(1)
    return SplitCall(rows, blocks, _is_run(blocks), length, mask, _targets(splits, rows, lowest), last)


def _is_run(blocks: IntArray) -> bool:
    return bool((np.diff(blocks.ravel()) == 1).all())


def _targets(splits: IntArray, rows: IntArray, lowest: IntArray) -> IntArray:
    return (splits[:, None] - lowest[rows]) * len(lowest) + rows
