"""Plans from step to step: a batch that only grew keeps its plan, any other gets a new one."""

from dataclasses import replace

import numpy as np

from radixcache_kernels.plan import AttentionPlan, assign_places, cut_items, find_tiles, takes_rows
from radixcache_kernels.splits import IntArray, LongArray, Ordered, find_splits, split_blocks
from radixcache_kernels.tiles import PlanOptions


class AttentionPlanner:
    """Makes the plan of each step, from the last one where that is possible."""

    def __init__(self, options: PlanOptions) -> None:
        self.options = options
        self._builds = 0
        self._age = 0
        self._plan: AttentionPlan | None = None
        self._order: Ordered
        self._tables: IntArray
        self._lengths: LongArray
        self._counts: LongArray
        self._until: LongArray  # by row, one past the last split that it has a place for
        self._narrow: IntArray  # the plan's narrow items, with room to append

    def step(self, block_tables: IntArray, seq_lens: IntArray, query_starts: IntArray) -> AttentionPlan:
        """The plan of a step.

        block_tables: `[S, max_blocks]` int32; entries past a sequence's length may hold anything.
        seq_lens: `[S]` tokens, the new ones included. query_starts: `[S + 1]`, as for paged_attention.

        Where every sequence of a batch of decodes has one token more than at the last call, and all blocks
        that it had are where they were, items for new splits are added to the last plan: it has the same
        `build` then, and its items begin with those of the last one.
        """
        tables = np.asarray(block_tables, dtype=np.int32)
        lengths = np.asarray(seq_lens).astype(np.int64)
        starts = np.asarray(query_starts).astype(np.int64)
        counts = np.diff(starts)
        plan = self._plan
        if plan is not None and self._only_grew(plan, tables, lengths, counts):
            self._plan = self._grow(plan, lengths)
        else:
            self._plan = self._build(tables, lengths, counts, starts)
        self._lengths = lengths
        self._counts = counts
        return self._plan

    def _build(
        self, tables: IntArray, lengths: LongArray, counts: LongArray, starts: LongArray
    ) -> AttentionPlan:
        options = self.options
        by_rows = takes_rows(counts, lengths, options)
        order, rows, items = find_splits(tables, lengths, starts, np.flatnonzero(by_rows), options)
        narrow, wide = cut_items(items, options)
        rows[:, 2], self._until, partials = assign_places(order, options)
        tiles = find_tiles(counts, lengths, np.flatnonzero((counts > 0) & ~by_rows), options)
        self._order, self._narrow, self._age = order, narrow, 0
        self._tables = tables.copy()
        self._builds += 1
        return AttentionPlan(
            options, rows, narrow, wide, tiles, partials, len(lengths), int(starts[-1]), self._builds
        )

    def _only_grew(
        self, plan: AttentionPlan, tables: IntArray, lengths: LongArray, counts: LongArray
    ) -> bool:
        if len(plan.tiles) or len(plan.rows) != len(self._order.sequences):
            return False
        if self.options.window is not None and self._age >= self.options.split:
            return False  # by now every row has left a split behind, of which it still has the item
        if not np.array_equal(counts, self._counts):
            return False
        if not np.array_equal(lengths, self._lengths + ((counts == 1) & (self._lengths > 0))):
            return False
        return self._take_new_blocks(tables) and not self._newly_shared(tables, lengths)

    def _take_new_blocks(self, tables: IntArray) -> bool:
        """Note the blocks that are new; False if one that was known is not what it was."""
        known = self._tables
        width = min(known.shape[1], tables.shape[1])
        # Of equal shapes this compares two stretches of memory, which is faster than row by row.
        changed = np.flatnonzero(known[:, :width] != tables[:, :width])
        lines, entries = np.divmod(changed, max(width, 1))
        if (entries * self.options.block_size < self._lengths[lines]).any():
            return False
        if known.shape == tables.shape:
            known[lines, entries] = tables[lines, entries]
        else:
            self._tables = tables.copy()
        return True

    def _newly_shared(self, tables: IntArray, lengths: LongArray) -> bool:
        """Whether a split that has just become full is now the same as a neighbour's."""
        options, order = self.options, self._order.sequences
        if not options.share:
            return False
        ordered = lengths[order]
        for place in np.flatnonzero((ordered % options.split == 0) & (ordered > 0)).tolist():
            split = ordered[place] // options.split - 1
            begin, end = split_blocks(split, options)
            own = tables[order[place], begin:end]
            for other in range(max(place - 1, 0), min(place + 2, len(order))):
                full = other != place and ordered[other] >= ordered[place]
                if full and np.array_equal(tables[order[other], begin:end], own):
                    return True
        return False

    def _grow(self, plan: AttentionPlan, lengths: LongArray) -> AttentionPlan:
        split = self.options.split
        self._age += 1
        ordered = lengths[self._order.sequences]
        entered = np.flatnonzero((ordered % split == 1) & (ordered > 1))
        if not len(entered):
            return plan
        index = ordered[entered] // split
        count = len(plan.narrow)
        if count + len(entered) > len(self._narrow):
            room = np.empty((count + len(entered) + len(plan.rows), 4), dtype=np.int32)
            room[:count] = plan.narrow
            self._narrow = room
        added = self._narrow[count : count + len(entered)]
        added[:, 0], added[:, 1], added[:, 2] = index, entered, 1
        added[:, 3] = self._order.sequences[entered]
        rows, partials = plan.rows, plan.partials
        if (index >= self._until[entered]).any():
            rows = rows.copy()
            order = replace(self._order, starts=ordered - 1, lengths=ordered)
            rows[:, 2], self._until, partials = assign_places(order, self.options)
        return replace(plan, rows=rows, narrow=self._narrow[: count + len(entered)], partials=partials)
