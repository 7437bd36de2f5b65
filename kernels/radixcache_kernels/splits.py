"""Which query rows attend to which split of whose keys, and which of them read it together: the one rule.

Keys are cut into splits at fixed absolute positions, every `SplitRule.split` tokens. A row's partial result
over a split depends on that row and that split alone, and partials are merged in position order. So a row's
attention is the same in any batch, with any cached length, and whichever sequences share its prefix. (Fixed
cuts follow the batch-invariant kernels of Thinking Machines' batch_invariant_ops.)

A row is a query token: a sequence and a position in it. Rows are put in the order of their block tables, so
rows that share a prefix are neighbours: the depth-first order of the tree that the tables form, whatever its
depth. For each split, a run of neighbours with the same blocks in all of it is one item, read once for all
its rows; where a row shares a split with no other, and in the ragged last split of each sequence, the item
is that sequence's alone.

Sharing below a common prefix of any depth follows ChunkAttention (Ye and others, 2024) and FlashInfer's
cascade (Ye and others, 2024), here without levels: a split is an item by itself.

The plans of the kernels and those of the CPU are both made of these items. Imports numpy alone.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int32]
LongArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

SPLIT_TOKENS = 256
"""Length of a split in tokens, on every device; results at different lengths differ in the last bits."""

# Splits compared at once; bounds the memory that comparing takes.
COMPARED_SPLITS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRule:
    """What decides which rows attend to which split together, besides the batch.

    Attributes:
        block_size: tokens of a block.
        split: tokens of a split, a power of two of at least 16.
        window: a row at position p attends to the positions (p - window, p]; None: to all up to p.
        share: read what several sequences share once for all of them.
    """

    block_size: int
    split: int = SPLIT_TOKENS
    window: int | None = None
    share: bool = True


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


class SplitItems(NamedTuple):
    """The work of a step, split by split.

    Attributes:
        order: of the sequences.
        rows: int32 `[R, 3]`, of each row in that order its row of the query, its sequence, and a place that
            the plan fills in.
        items: int64 `[*, 4]`: split, first row, number of rows, sequence whose blocks to read; in the
            order of splits.
    """

    order: Ordered
    rows: IntArray
    items: LongArray


def find_splits(
    tables: IntArray,
    lengths: LongArray,
    query_starts: LongArray,
    chosen: LongArray,
    rule: SplitRule,
) -> SplitItems:
    """The items of the chosen sequences of a step.

    Every row of an item attends to some of its split, and two sequences are in one item only if all their
    rows attend to all of it, as far as causality goes (a window may still hide a part).

    Args:
        tables: `[S, max_blocks]`; entries past a sequence's length may hold anything.
        lengths: `[S]` tokens, the new ones included.
        query_starts: `[S + 1]`, first row of the query of each sequence.
        chosen: indices of the sequences, each with a new token at least.
        rule: how to cut and share.
    """
    order = order_sequences(tables, lengths, np.diff(query_starts), chosen, rule)
    items = find_items(order, shared_with_previous(tables, order, rule), rule)
    return SplitItems(order, find_rows(order, query_starts), items)


def order_sequences(
    tables: IntArray, lengths: LongArray, counts: LongArray, chosen: LongArray, rule: SplitRule
) -> Ordered:
    """The chosen sequences in an order in which all that share a prefix of blocks are neighbours."""
    if rule.share and len(chosen) > 1:
        # Any order of blocks will do, so the bytes of a table are compared as they are.
        raw, width = tables.tobytes(), tables.shape[1] * 4
        ends = (-(-lengths // rule.block_size) * 4).tolist()
        keys = [raw[index * width : index * width + ends[index]] for index in chosen.tolist()]
        chosen = chosen[sorted(range(len(keys)), key=keys.__getitem__)]
    held = counts[chosen]
    first_rows = np.zeros(len(chosen) + 1, dtype=np.int64)
    np.cumsum(held, out=first_rows[1:])
    return Ordered(chosen, lengths[chosen] - held, lengths[chosen], first_rows)


def lowest_splits(positions: LongArray, rule: SplitRule) -> LongArray:
    """The first split that rows at these positions attend to."""
    if rule.window is None:
        return np.zeros_like(positions)
    return np.maximum(positions - rule.window + 1, 0) // rule.split


def split_blocks(splits: LongArray, rule: SplitRule) -> tuple[LongArray, LongArray]:
    """First and last table entry, the latter exclusive, of splits."""
    begin = splits * rule.split // rule.block_size
    return begin, -(-(splits + 1) * rule.split // rule.block_size)


def shared_with_previous(tables: IntArray, order: Ordered, rule: SplitRule) -> BoolArray:
    """`[splits, n]`: all rows of this sequence and the previous one see this split, of the same blocks."""
    depth = int(-(-order.lengths.max(initial=0) // rule.split))
    same = np.zeros((depth, len(order.sequences)), dtype=np.bool_)
    if not rule.share:
        return same
    whole = (order.starts + 1) // rule.split
    lowest = lowest_splits(order.lengths - 1, rule)
    until = np.minimum(whole[1:], whole[:-1])
    since = np.maximum(lowest[1:], lowest[:-1])
    for left in range(0, int(until.max(initial=0)), COMPARED_SPLITS):
        splits = np.arange(left, min(left + COMPARED_SPLITS, int(until.max())))
        begin, end = split_blocks(splits, rule)
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


def find_items(order: Ordered, same: BoolArray, rule: SplitRule) -> LongArray:
    """`[*, 4]`: split, first row, number of rows, sequence; runs of sharers are not yet cut into tiles."""
    depth, width = same.shape
    split = rule.split
    columns = np.arange(depth)[:, None]
    valid = columns * split < order.lengths
    if rule.window is not None:
        valid &= columns >= lowest_splits(order.starts, rule)
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
    if rule.window is not None:
        seen = (index + 1) * split + rule.window - 1 - order.starts[last]
        end = order.first_rows[last] + np.clip(seen, 0, counts[last])
    return np.stack([index, first, end - first, order.sequences[at]], axis=1)


def find_rows(order: Ordered, query_starts: LongArray) -> IntArray:
    """`[R, 3]`: query row, sequence, and no base as yet."""
    counts = np.diff(order.first_rows)
    rows = np.zeros((int(order.first_rows[-1]), 3), dtype=np.int32)
    inner = np.arange(len(rows)) - np.repeat(order.first_rows[:-1], counts)
    rows[:, 0] = np.repeat(query_starts[order.sequences], counts) + inner
    rows[:, 1] = np.repeat(order.sequences, counts)
    return rows
