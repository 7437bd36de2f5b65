"""A step's attention as a list of work items for the kernels' tiles; who reads what is decided in splits.py.

A row's result does not depend on the items it is in: each (row, split) is computed by itself and has a place
for its partial result.
"""

from dataclasses import dataclass

import numpy as np

from radixcache_kernels.splits import BoolArray, IntArray, LongArray, Ordered, lowest_splits
from radixcache_kernels.tiles import PlanOptions

# Splits that each row can grow by before places of partial results are assigned again.
SPARE_SPLITS = 4


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """The work of a step. All arrays are int32 and not to be written to.

    Attributes:
        options: what it was made for.
        rows: `[R, 3]`, of each row that is attended split by split: its row of the query, its sequence, and
            its base: the partial result over split j has place base + j.
        narrow, wide: `[*, 4]` items: split, first row, number of rows, sequence whose blocks to read.
        tiles: `[*, 2]` tiles of the prefill kernel: sequence, first of its new tokens.
        partials: places of partial results, room to grow included.
        num_sequences, num_rows: of the batch, the latter with all query rows.
        build: number of the building; the next plan has the same one if it only grew.
    """

    options: PlanOptions
    rows: IntArray
    narrow: IntArray
    wide: IntArray
    tiles: IntArray
    partials: int
    num_sequences: int
    num_rows: int
    build: int


def takes_rows(counts: LongArray, lengths: LongArray, options: PlanOptions) -> BoolArray:
    """Which sequences are attended split by split: decodes, and few new tokens over a long history."""
    few = (counts > 1) & (counts <= options.few_rows) & (lengths - counts >= options.split)
    chosen: BoolArray = (counts == 1) | few
    return chosen


def cut_items(items: LongArray, options: PlanOptions) -> tuple[IntArray, IntArray]:
    """Items of at most a narrow tile's rows, and of at most a wide tile's.

    Runs are cut into wide pieces if that saves enough reads to pay for a second launch, else into narrow
    ones. Pieces of a run are neighbours, so all but the first are likely to be read from the L2 cache.
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


def assign_places(order: Ordered, options: PlanOptions) -> tuple[LongArray, LongArray, int]:
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
