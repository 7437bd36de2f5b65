"""A planner that goes on from the last step makes the plan that it would make from scratch."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from radixcache.engine.backends.tables import step_tables
from radixcache.engine.backends.torch.split_plan import SplitCall, SplitPlan, SplitPlanner
from radixcache.engine.step import SequenceRows, StepBatch
from radixcache.numerics.attention import SPLIT_LENGTHS
from radixcache_kernels.splits import SplitRule

BLOCK, NULL = 16, 9999


def same(first: SplitCall, second: SplitCall) -> bool:
    arrays = all(
        np.array_equal(getattr(first, name), getattr(second, name)) for name in ("rows", "blocks", "targets")
    )
    masks = (first.mask is None) == (second.mask is None)
    if first.mask is not None and second.mask is not None:
        masks = torch.equal(first.mask, second.mask) and np.array_equal(first.last, second.last)
    return arrays and masks and (first.run, first.length) == (second.run, second.length)


def plan(planner: SplitPlanner, rows: Sequence[SequenceRows]) -> SplitPlan:
    batch = StepBatch(rows, BLOCK, device=torch.device("cpu"))
    return planner.plan(step_tables(batch, NULL, -(-batch.table_width // 16) * 16))


@pytest.mark.parametrize("window", [None, 100, 300])
@pytest.mark.parametrize("seed", range(4))
def test_steps_of_decodes_are_planned_as_from_scratch(seed: int, window: int | None) -> None:
    rng = random.Random(seed)
    rule = SplitRule(block_size=BLOCK, window=window)
    kept = SplitPlanner(rule, SPLIT_LENGTHS)
    # Two share a prefix of a split and a half; one reaches the end of a split while they decode.
    shared = rng.sample(range(1000, 2000), 24)
    tables = [[*shared, *rng.sample(range(first, first + 500), 16)] for first in (2000, 3000)]
    tables.append(rng.sample(range(4000, 5000), 40))
    starts = [400 + rng.randrange(40), 400 + rng.randrange(40), 244 + rng.randrange(12)]
    for step in range(40):
        if step == 20:  # one leaves, and the others go on
            tables, starts = tables[1:], starts[1:]
        if step == 30:  # a block is another one now, as after a copy
            tables[0] = [*tables[0][:24], 7777, *tables[0][25:]]
        rows = [
            SequenceRows([0], start + step, table[: (start + step) // BLOCK + 1], 1)
            for table, start in zip(tables, starts, strict=True)
        ]
        ours, fresh = plan(kept, rows), plan(SplitPlanner(rule, SPLIT_LENGTHS), rows)
        assert (ours.depth, ours.shallow) == (fresh.depth, fresh.shallow)
        assert len(ours.calls) == len(fresh.calls)
        assert all(map(same, ours.calls, fresh.calls)), step


def test_a_plan_is_kept_while_a_batch_grows_within_its_blocks() -> None:
    planner = SplitPlanner(SplitRule(block_size=BLOCK), SPLIT_LENGTHS)
    table = random.Random(0).sample(range(1000), 40)
    plans = [plan(planner, [SequenceRows([0], start, table[:38], 1)]) for start in (594, 595)]
    whole = [[call for call in each.calls if call.mask is None] for each in plans]
    assert whole[0]
    assert all(first is second for first, second in zip(*whole, strict=True))
