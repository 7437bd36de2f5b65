"""Splits read once for all that share them: the bits of reading them for each row, and the right ones."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from kernel_batches import SPLIT, Batch, assert_close_to_reference, make_batch
from torch import Tensor

from radixcache_kernels import AttentionPlanner, DevicePlan, KernelInputError, PlanCapacity, PlanOverflowError
from radixcache_kernels.tiles import Tile, Tiles

F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16

# A system prompt of a split, and two chats over a document of one more; and a sequence on its own.
LENGTHS = [2 * SPLIT + 9, 2 * SPLIT + 1, SPLIT + 7, 2 * SPLIT, SPLIT + 5, 20]
PARENTS = {1: (0, 2 * SPLIT), 2: (0, SPLIT), 3: (0, 2 * SPLIT - 16), 4: (0, SPLIT)}
ROWS = [1] * len(LENGTHS)

MODELS = [
    pytest.param(8, 1, 64, F32, {}, id="float32"),
    pytest.param(4, 2, 80, F16, {"soft_cap": 5.0, "sinks": True}, id="float16-cap-sinks"),
    pytest.param(6, 1, 64, BF16, {"sliding_window": SPLIT + 3}, id="bfloat16-window"),
    pytest.param(1, 1, 128, F16, {"sliding_window": 7}, id="mha-float16-window"),
]


def tree(
    heads: int, kv_heads: int, head_dim: int, dtype: torch.dtype, rows: list[int], device: torch.device
) -> Batch:
    return make_batch(
        LENGTHS,
        rows,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        dtype=dtype,
        device=device,
        parents=PARENTS,
    )


def with_sinks(options: dict[str, Any], heads: int, device: torch.device) -> dict[str, Any]:
    options = dict(options)
    if options.pop("sinks", False):
        options["sinks"] = torch.linspace(-1.0, 1.0, heads, device=device)
    return options


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize(("heads", "kv_heads", "head_dim", "dtype", "options"), MODELS)
def test_sharing_changes_no_bit(
    heads: int,
    kv_heads: int,
    head_dim: int,
    dtype: torch.dtype,
    options: dict[str, Any],
    device: torch.device,
) -> None:
    batch = tree(heads, kv_heads, head_dim, dtype, ROWS, device)
    options = with_sinks(options, heads, device)
    window = options.get("sliding_window")
    shared = batch.plan(batch.options(sliding_window=window))
    apart = batch.plan(batch.options(sliding_window=window, share=False))
    assert shared.plan is not None
    assert apart.plan is not None
    assert window == 7 or len(shared.plan.narrow) + len(shared.plan.wide) < len(apart.plan.narrow)
    assert (len(shared.plan.wide) > 0) == (heads // kv_heads >= 6)
    result = batch.run(plan=shared, **options)
    assert_close_to_reference(batch, result, **options)
    assert torch.equal(result, batch.run(plan=apart, **options))
    assert torch.equal(result, batch.run(num_decodes=len(ROWS), **options))
    alone = batch.select([(1, 0, 1)])
    assert torch.equal(result[1], alone.run(num_decodes=1, **options)[0])


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize(("heads", "kv_heads", "head_dim", "dtype", "options"), MODELS[:3])
def test_no_cut_of_a_prompt_changes_a_bit(
    heads: int,
    kv_heads: int,
    head_dim: int,
    dtype: torch.dtype,
    options: dict[str, Any],
    device: torch.device,
) -> None:
    rows = [9, 1, 3, 2, 5, 4]
    batch = tree(heads, kv_heads, head_dim, dtype, rows, device)
    options = with_sinks(options, heads, device)
    made_for = batch.options(sliding_window=options.get("sliding_window"))
    whole = batch.run(**options)  # all through the prefill kernel
    for few_rows in (3, 9):
        plan = batch.plan(replace(made_for, few_rows=few_rows))
        assert plan.plan is not None
        assert len(plan.plan.rows) > 2
        assert torch.equal(batch.run(plan=plan, **options), whole)
    first, second = batch.select([(0, 0, 7), (2, 0, 3)]), batch.select([(0, 7, 9), (3, 0, 2)])
    for part, place in ((first, 0), (second, 7)):
        plan = part.plan(replace(made_for, few_rows=7))
        count = 7 if place == 0 else 2
        assert torch.equal(part.run(plan=plan, **options)[:count], whole[place : place + count])


@pytest.mark.parametrize(
    ("dtype", "head_dim"),
    [(F32, 128), (F16, 256), (F16, 64), pytest.param(BF16, 128, marks=pytest.mark.gpu)],
)
def test_the_rows_of_a_tile_change_no_bit(dtype: torch.dtype, head_dim: int, device: torch.device) -> None:
    # Splits of two key tiles, but for the last model.
    batch = tree(4, 1, head_dim, dtype, [11, 1, 2, 1, 1, 1], device)
    expected: Tensor | None = None
    rows = [(16, 16, 16), (16, 32, 64), (32, 64, 128)]
    if dtype == F32:  # multiplied without a matrix instruction: large tiles take minutes to compile
        rows = [(16, 16, 16), (16, 32, 32), (32, 32, 16)]
    for narrow, wide, prefill in rows:
        # Two warps: never wgmma.
        tiles = Tiles(Tile(narrow, 2), Tile(wide, 2), Tile(prefill, 2))
        plan = batch.plan(batch.options(tiles=tiles, split=2 * SPLIT))
        result = batch.run(plan=plan, split=2 * SPLIT)
        expected = result if expected is None else expected
        assert torch.equal(result, expected)
    assert_close_to_reference(batch, result)


def next_step(batch: Batch) -> Batch:
    """Every sequence one token on, in the room that is left in its last block."""
    return replace(batch, seq_lens=batch.seq_lens + (batch.seq_lens > 0).to(batch.seq_lens.dtype))


@pytest.mark.usefixtures("poisoned_memory")
def test_a_plan_in_fixed_places_serves_step_after_step(device: torch.device) -> None:
    # All blocks there will be are filled; the lengths start short.
    full = make_batch(
        [SPLIT + 9, SPLIT + 2, SPLIT + 7, 0],
        [1] * 4,
        heads=2,
        kv_heads=1,
        device=device,
        parents={1: (0, SPLIT), 2: (0, SPLIT)},
    )
    batch = replace(full, seq_lens=full.seq_lens - torch.tensor([3, 3, 3, 0], device=device).int())
    options = batch.options()
    planner = AttentionPlanner(options)
    room = PlanCapacity.of_decodes(options, 4, full.block_tables.shape[1] * 16)
    fixed = DevicePlan(device, 1, room)
    addresses, builds = set(), set()
    for _ in range(3):
        plan = batch.step(planner)
        builds.add(plan.build)
        fixed.load(plan)
        work = fixed.work
        grids = (work.row_programs, work.narrow_programs, work.wide_programs, work.partials)
        addresses.add((*grids, *(tensor.data_ptr() for tensor in (work.rows, work.narrow, work.num_narrow))))
        assert_close_to_reference(batch, batch.run(plan=fixed))
        batch = next_step(batch)
    # The second was a token short of a split, which the first and the third share.
    assert len(builds) == 2
    assert len(addresses) == 1
    fewer = batch.select([(2, 0, 1), (0, 0, 1)])
    fixed.load(fewer.step(planner))
    assert_close_to_reference(fewer, fewer.run(plan=fixed))


def test_what_does_not_fit_is_refused_and_changes_nothing(device: torch.device) -> None:
    batch = make_batch([70, 40], [1, 1], heads=2, kv_heads=1, device=device)
    options = batch.options()
    plan = batch.step(AttentionPlanner(options))
    small = DevicePlan(device, 1, PlanCapacity(rows=2, narrow=4, wide=0, partials=99))
    with pytest.raises(ValueError, match="no plan loaded"):
        batch.run(plan=small)
    with pytest.raises(PlanOverflowError, match="5 narrow, there is room for 4"):
        small.load(plan)
    one = batch.select([(1, 0, 1)])
    small.load(one.step(AttentionPlanner(options)))
    with pytest.raises(PlanOverflowError, match="there is room for 4"):
        small.load(plan)
    assert_close_to_reference(one, one.run(plan=small))
    chunk = make_batch([9], [5], heads=2, kv_heads=1, device=device)
    with pytest.raises(PlanOverflowError, match="1 tiles of prefill"):
        small.load(chunk.step(AttentionPlanner(options)))


def test_a_plan_of_another_batch_is_refused(device: torch.device) -> None:
    batch = make_batch([70, 40, 40], [1, 1, 1], heads=4, kv_heads=1, device=device)
    plan = batch.plan()
    with pytest.raises(KernelInputError, match="the plan is for split 32, the call has 64"):
        batch.run(plan=plan, split=64)
    with pytest.raises(KernelInputError, match="the plan is for window None, the call has 9"):
        batch.run(plan=plan, sliding_window=9)
    with pytest.raises(KernelInputError, match="3 sequences and 3 rows, the batch has 2 and 2"):
        batch.select([(0, 0, 1), (1, 0, 1)]).run(plan=plan)
    with pytest.raises(KernelInputError, match="nothing covers its split 2"):
        batch.select([(1, 0, 1), (0, 0, 1), (2, 0, 1)]).run(plan=plan)


@pytest.mark.parametrize(
    ("place", "entry", "value", "message"),
    [
        (0, 1, 3, r"narrow item 0 \(0, 3, 1, 0\) names rows outside 0\.\.2"),
        (0, 2, 9, "names rows outside"),
        (0, 0, -1, "names rows outside"),
        (0, 3, 3, r"names a sequence outside 0\.\.2"),
        (0, 3, 2, "row 0 has other blocks than sequence 2"),
        (1, 1, 0, "row 0 has its split twice"),
        (4, 0, 7, "nothing covers its split"),
    ],
)
def test_debug_mode_names_a_wrong_entry_of_a_plan(
    place: int, entry: int, value: int, message: str, device: torch.device
) -> None:
    batch = make_batch([70, 40, 40], [1, 1, 1], heads=4, kv_heads=1, device=device)
    plan = batch.plan()
    plan.work.narrow[place, entry] = value
    with pytest.raises(KernelInputError, match=message):
        batch.run(plan=plan)


def test_padding_rows_after_planned_ones_are_zero(device: torch.device) -> None:
    batch = make_batch([40, 0, 9], [1, 1, 5], heads=2, kv_heads=1, padding=3, device=device)
    assert_close_to_reference(batch, batch.run(plan=batch.plan()))


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.gpu)])
def test_many_sequences_that_share(count: int, device: torch.device) -> None:
    lengths = [SPLIT + 1 + (7 * sequence) % 19 for sequence in range(count)]
    batch = make_batch(
        lengths,
        [1] * count,
        heads=1,
        kv_heads=1,
        head_dim=16,
        dtype=F16,
        device=device,
        shared_tokens=SPLIT,
    )
    plan = batch.plan()
    assert plan.plan is not None
    assert (len(plan.plan.narrow), len(plan.plan.wide)) == (count, -(-count // 32))
    assert_close_to_reference(batch, batch.run(plan=plan))
