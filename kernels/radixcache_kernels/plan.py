"""Which query rows meet which split of whose keys: a step's attention as a list of work items.

A row is a query token: a sequence and a position in it. Rows are put in the order of their block tables, so
rows that share a prefix are neighbours: the depth-first order of the tree that the tables form, whatever its
depth. For each split of fixed absolute position, a run of neighbours with the same blocks in all of it is one
item, read once for all its rows; where a row shares a split with nobody, and in the ragged last split of each
sequence, the item is that sequence's own. A row's result does not depend on the items it is in: each
(row, split) is computed on its own and has its own place for its partial result.

Sharing below a common prefix of any depth follows ChunkAttention (Ye and others, 2024) and FlashInfer's
cascade (Ye and others, 2024), here without levels: a split is an item of its own.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radixcache_kernels.tiles import PlanOptions

IntArray = NDArray[np.int32]
LongArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

# Splits that each row can grow by before places of partial results are given out anew.
SPARE_SPLITS = 4
# Splits compared at once; bounds the memory that comparing takes.
COMPARED_SPLITS = 64


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """The work of a step. All arrays are int32 and not to be written to.

    Attributes:
        options: what it was made for.
        rows: `[R, 3]`, of each row that is attended split by split: its row of the query, its sequence, and
            its base: the partial result over split j has place base + j.
        narrow, wide: `[*, 4]` items: split, first row, number of rows, sequence whose blocks to read.
        tiles: `[*, 2]` tiles of the prefill kernel: sequence, first of its new tokens.
        slots: places of partial results, room to grow included.
        num_sequences, num_rows: of the batch, the latter with all query rows.
        build: number of the building; the next plan has the same one if it only grew.
    """

    options: PlanOptions
    rows: IntArray
    narrow: IntArray
    wide: IntArray
    tiles: IntArray
    slots: int
    num_sequences: int
    num_rows: int
    build: int


@dataclass(frozen=True, slots=True)
class Ordered:
    """The sequences that are attended split by split, neighbours in the tree being neighbours here.

    Attributes:
        sequences: index of each in the batch.
        starts: tokens before the new ones.
        lengths: tokens in all.
        first_rows: `[n + 1]`, rows before each sequence's.
    """

    sequences: LongArray
    starts: LongArray
    lengths: LongArray
    first_rows: LongArray


def takes_rows(counts: LongArray, lengths: LongArray, options: PlanOptions) -> BoolArray:
    """Which sequences are attended split by split: decodes, and few new tokens over a long history."""
    few = (counts > 1) & (counts <= options.few_rows) & (lengths - counts >= options.split)
    chosen: BoolArray = (counts == 1) | few
    return chosen


def order_sequences(
    tables: IntArray, lengths: LongArray, counts: LongArray, chosen: LongArray, options: PlanOptions
) -> Ordered:
    """The chosen sequences in an order in which all that share a prefix of blocks are neighbours."""
    if options.share and len(chosen) > 1:
        # Any order of blocks will do, so the bytes of a table are compared as they are.
        raw, width = tables.tobytes(), tables.shape[1] * 4
        ends = (-(-lengths // options.block_size) * 4).tolist()
        keys = [raw[index * width : index * width + ends[index]] for index in chosen.tolist()]
        chosen = chosen[sorted(range(len(keys)), key=keys.__getitem__)]
    held = counts[chosen]
    first_rows = np.zeros(len(chosen) + 1, dtype=np.int64)
    np.cumsum(held, out=first_rows[1:])
    return Ordered(chosen, lengths[chosen] - held, lengths[chosen], first_rows)


def lowest_splits(positions: LongArray, options: PlanOptions) -> LongArray:
    """The first split that rows at these positions attend to."""
    if options.window is None:
        return np.zeros_like(positions)
    return np.maximum(positions - options.window + 1, 0) // options.split


def split_blocks(splits: LongArray, options: PlanOptions) -> tuple[LongArray, LongArray]:
    """First and last table entry, the latter exclusive, of splits."""
    begin = splits * options.split // options.block_size
    return begin, -(-(splits + 1) * options.split // options.block_size)


def shared_with_previous(tables: IntArray, order: Ordered, options: PlanOptions) -> BoolArray:
    """`[splits, n]`: all rows of this sequence and the previous one see this split, of the same blocks."""
    depth = int(-(-order.lengths.max(initial=0) // options.split))
    same = np.zeros((depth, len(order.sequences)), dtype=np.bool_)
    if not options.share:
        return same
    whole = (order.starts + 1) // options.split
    lowest = lowest_splits(order.lengths - 1, options)
    until = np.minimum(whole[1:], whole[:-1])
    since = np.maximum(lowest[1:], lowest[:-1])
    for left in range(0, int(until.max(initial=0)), COMPARED_SPLITS):
        splits = np.arange(left, min(left + COMPARED_SPLITS, int(until.max())))
        begin, end = split_blocks(splits, options)
        first = int(begin[0])
        # The tables of all pairs that reach so far, in order: each is compared with the one before it.
        pairs = np.flatnonzero((until > left) & (since < left + COMPARED_SPLITS)) + 1
        if not len(pairs):
            continue
        needed = np.union1d(pairs, pairs - 1)
        part = tables[order.sequences[needed], first : int(end[-1])]
        differs = (part[1:] != part[:-1])[np.searchsorted(needed, pairs) - 1]
        equal = ~_any_of(differs, begin - first, end - first)
        equal &= (splits >= since[pairs - 1, None]) & (splits < until[pairs - 1, None])
        same[left : left + len(splits), pairs] = equal.T
    return same


def _any_of(flags: BoolArray, begin: LongArray, end: LongArray) -> BoolArray:
    """`[n, stretches]`: whether any of flags[:, begin:end] is set; the stretches cover flags, in order."""
    lines, width = flags.shape
    each = width // len(begin)
    if each % 8 == 0 and each * len(begin) == width and (end - begin == each).all():
        # Eight flags a word, and a few operations on all stretches at once: short reductions are slow.
        words = flags.view(np.uint64).reshape(lines, len(begin), -1)
        found = words[..., 0]
        for place in range(1, words.shape[2]):
            found = found | words[..., place]
        return found.astype(np.bool_)
    before = np.zeros((lines, width + 1), dtype=np.int32)
    np.cumsum(flags, axis=1, out=before[:, 1:])
    return np.greater(before[:, end], before[:, begin])


def find_items(order: Ordered, same: BoolArray, options: PlanOptions) -> LongArray:
    """`[*, 4]`: split, first row, number of rows, sequence; runs of sharers are not yet cut into tiles."""
    depth, width = same.shape
    split = options.split
    columns = np.arange(depth)[:, None]
    valid = columns * split < order.lengths
    if options.window is not None:
        valid &= columns >= lowest_splits(order.starts, options)
    # Split by split, a run lasts to the next place that does not go on with the one before.
    places = np.flatnonzero(~same)
    ends = np.append(places[1:], same.size)
    begun = valid.ravel()[places]
    places, ends = places[begun], ends[begun]
    index, at = np.divmod(places, max(width, 1))
    last = at + (ends - places) - 1
    counts = np.diff(order.first_rows)
    first, end = order.first_rows[at], order.first_rows[last + 1]
    if (counts > 1).any():
        first = first + np.clip(index * split - order.starts[at], 0, counts[at])
    if options.window is not None:
        seen = (index + 1) * split + options.window - 1 - order.starts[last]
        end = order.first_rows[last] + np.clip(seen, 0, counts[last])
    return np.stack([index, first, end - first, order.sequences[at]], axis=1)


def cut_items(items: LongArray, options: PlanOptions) -> tuple[IntArray, IntArray]:
    """Items of at most a narrow tile's rows, and of at most a wide tile's.

    Runs are cut into wide pieces if that saves enough reads to pay for a second launch, else into narrow
    ones. Pieces of a run lie side by side, so all but the first are likely to be read from the L2 cache.
    """
    narrow, wide = options.narrow_rows, options.wide_rows
    large = items[:, 2] > narrow
    runs = items[large]
    saved = int((-(-runs[:, 2] // narrow) + runs[:, 2] // -wide).sum())
    pays = wide > narrow and saved >= options.wide_saving
    pieces = -(-runs[:, 2] // (wide if pays else narrow))
    size = np.repeat(-(-runs[:, 2] // pieces), pieces)
    cut = np.repeat(runs, pieces, axis=0)
    place = (np.arange(len(cut)) - np.repeat(np.cumsum(pieces) - pieces, pieces)) * size
    cut[:, 1] += place
    cut[:, 2] = np.minimum(size, cut[:, 2] - place)
    if pays:
        return items[~large].astype(np.int32), cut.astype(np.int32)
    return np.concatenate([cut, items[~large]]).astype(np.int32), np.zeros((0, 4), dtype=np.int32)


def find_rows(order: Ordered, query_starts: LongArray) -> IntArray:
    """`[R, 3]`: query row, sequence, and no base as yet."""
    counts = np.diff(order.first_rows)
    rows = np.zeros((int(order.first_rows[-1]), 3), dtype=np.int32)
    inner = np.arange(len(rows)) - np.repeat(order.first_rows[:-1], counts)
    rows[:, 0] = np.repeat(query_starts[order.sequences], counts) + inner
    rows[:, 1] = np.repeat(order.sequences, counts)
    return rows


def give_places(order: Ordered, options: PlanOptions) -> tuple[LongArray, LongArray, int]:
    """Of each row its base, and one past the last split that it has a place for; and all places."""
    counts = np.diff(order.first_rows)
    lowest = lowest_splits(order.starts, options)
    until = -(-order.lengths // options.split) + SPARE_SPLITS
    lowest, until = np.repeat(lowest, counts), np.repeat(until, counts)
    ends = np.cumsum(until - lowest)
    return ends - until, until, int(ends[-1]) if len(ends) else 0


def find_tiles(counts: LongArray, lengths: LongArray, others: LongArray, options: PlanOptions) -> IntArray:
    """Tiles of the sequences that go through the prefill kernel, those of most keys first."""
    step = options.prefill_rows
    pieces = -(-counts[others] // step)
    tiles = np.empty((int(pieces.sum()), 2), dtype=np.int32)
    tiles[:, 0] = np.repeat(others, pieces)
    tiles[:, 1] = (np.arange(len(tiles)) - np.repeat(np.cumsum(pieces) - pieces, pieces)) * step
    keys = (lengths - counts)[tiles[:, 0]] + tiles[:, 1]
    return tiles[np.argsort(-keys, kind="stable")]
