"""Plans of work items against a naive model: every split of every row once, shared only what is the same."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixcache_kernels import AttentionPlan, AttentionPlanner, PlanOptions
from radixcache_kernels.splits import IntArray
from radixcache_kernels.tiles import Tile, Tiles, choose_tiles, plan_options

Tables = list[list[int]]


def options(
    block_size: int = 16,
    *,
    window: int | None = None,
    few_rows: int = 4,
    wide_saving: int = 1,
    share: bool = True,
) -> PlanOptions:
    """Splits of 32 tokens, two rows to a narrow item, four to a wide one, eight tokens to a prefill tile."""
    tiles = Tiles(Tile(16), Tile(32), Tile(64, warps=2))
    return PlanOptions(
        block_size=block_size,
        split=32,
        group=8,
        window=window,
        tiles=tiles,
        few_rows=few_rows,
        wide_saving=wide_saving,
        share=share,
    )


def sees(position: int, split: int, made_for: PlanOptions) -> bool:
    """Whether the row at a position attends to any key of a split."""
    lowest = 0 if made_for.window is None else max(0, position - made_for.window + 1)
    keys = range(split * made_for.split, (split + 1) * made_for.split)
    return any(lowest <= key <= position for key in keys)


def arrays(tables: Tables, counts: Sequence[int]) -> tuple[IntArray, IntArray]:
    """Tables padded with ids that mean nothing, and query starts."""
    width = max(map(len, tables), default=0) + 1
    padded = np.full((len(tables), width), 10**6, dtype=np.int32)
    for line, table in zip(padded, tables, strict=True):
        line[: len(table)] = table
    return padded, np.cumsum([0, *counts], dtype=np.int32)


def plan_of(
    planner: AttentionPlanner, tables: Tables, lengths: Sequence[int], counts: Sequence[int]
) -> AttentionPlan:
    padded, starts = arrays(tables, counts)
    return planner.step(padded, np.asarray(lengths, dtype=np.int32), starts)


def check(plan: AttentionPlan, tables: Tables, lengths: Sequence[int], counts: Sequence[int]) -> None:
    """The plan does everything that is to be done, once, with the right blocks, in separate places."""
    made_for = plan.options
    starts = np.cumsum([0, *counts])
    rows = plan.rows.tolist()
    position = [lengths[owner] - counts[owner] + row - starts[owner] for row, owner, _ in rows]
    taken = [row for row, _, _ in rows]
    for sequence, first in plan.tiles.tolist():
        last = min(first + made_for.prefill_rows, counts[sequence])
        assert first < last
        taken.extend(range(starts[sequence] + first, starts[sequence] + last))
    assert sorted(taken) == list(range(starts[-1]))
    assert all(starts[owner] <= row < starts[owner + 1] for row, owner, _ in rows)

    covered: list[tuple[int, int]] = []
    for items, most in ((plan.narrow, made_for.narrow_rows), (plan.wide, made_for.wide_rows)):
        for split, first, number, sequence in items.tolist():
            assert 1 <= number <= most
            begin = split * made_for.split // made_for.block_size
            for place in range(first, first + number):
                if not sees(position[place], split, made_for):
                    continue
                covered.append((place, split))
                end = min((split + 1) * made_for.split, position[place] + 1)
                end = -(-end // made_for.block_size)
                assert tables[rows[place][1]][begin:end] == tables[sequence][begin:end]
    needed = [
        (place, split)
        for place in range(len(rows))
        for split in range(position[place] // made_for.split + 1)
        if sees(position[place], split, made_for)
    ]
    assert sorted(covered) == sorted(needed)
    slots = [rows[place][2] + split for place, split in covered]
    assert len(set(slots)) == len(slots)
    assert all(0 <= slot < plan.partials for slot in slots)


def runs(plan: AttentionPlan) -> set[tuple[int, frozenset[int]]]:
    """The plan's items as (split, query rows), the pieces of a run joined."""
    joined: dict[tuple[int, int], set[int]] = {}
    for split, first, number, sequence in np.concatenate([plan.narrow, plan.wide]).tolist():
        joined.setdefault((split, sequence), set()).update(plan.rows[first : first + number, 0].tolist())
    return {(split, frozenset(rows)) for (split, _), rows in joined.items()}


def sharers(tables: Tables, lengths: Sequence[int], made_for: PlanOptions) -> set[tuple[int, frozenset[int]]]:
    """Of decodes: which share each split, told by all of its blocks; none shares its ragged last one."""
    groups: dict[object, set[int]] = {}
    for row, (table, length) in enumerate(zip(tables, lengths, strict=True)):
        for split in range(-(-length // made_for.split)):
            begin = split * made_for.split // made_for.block_size
            end = -(-(split + 1) * made_for.split // made_for.block_size)
            whole = (split + 1) * made_for.split <= length
            groups.setdefault((split, *table[begin:end]) if whole else (split, None, row), set()).add(row)
    return {(key[0], frozenset(rows)) for key, rows in groups.items()}  # type: ignore[index]


@st.composite
def trees(draw: st.DrawFn, block_size: int, *, decodes: bool) -> tuple[Tables, list[int], list[int]]:
    """Sequences grown as a random tree: each may go on from whole blocks of an earlier one."""
    tables: Tables = []
    lengths: list[int] = []
    counts: list[int] = []
    fresh = ((number * 7919) % 10007 for number in itertools.count())
    for _ in range(draw(st.integers(1, 7))):
        length = draw(st.integers(0, 140))
        table: list[int] = []
        if tables and draw(st.integers(0, 3)):
            parent = draw(st.integers(0, len(tables) - 1))
            table = tables[parent][: draw(st.integers(0, lengths[parent] // block_size))]
            length = max(length, len(table) * block_size + 1)
        table = table + [next(fresh) for _ in range(-(-length // block_size) - len(table))]
        tables.append(table)
        lengths.append(length)
        counts.append(1 if decodes else draw(st.integers(0, min(length, 9))))
    return tables, lengths, counts


def grow(
    tables: Tables, lengths: list[int], block_size: int, fresh: Iterator[int]
) -> tuple[Tables, list[int]]:
    """One token more for each sequence that has any, in private blocks."""
    lengths = [length + (length > 0) for length in lengths]
    needed = [-(-length // block_size) for length in lengths]
    return [
        [*table, next(fresh)] if len(table) < blocks else table
        for table, blocks in zip(tables, needed, strict=True)
    ], lengths


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_every_split_of_every_row_is_covered_once(data: st.DataObject) -> None:
    block_size = data.draw(st.sampled_from([1, 8, 16, 32, 64]))
    made_for = options(
        block_size,
        window=data.draw(st.sampled_from([None, None, 1, 5, 33, 70])),
        few_rows=data.draw(st.integers(1, 4)),
        wide_saving=data.draw(st.sampled_from([1, 3, 100])),
        share=data.draw(st.booleans()),
    )
    tables, lengths, counts = data.draw(trees(block_size, decodes=False))
    order = data.draw(st.permutations(range(len(tables))))
    tables, lengths, counts = ([values[place] for place in order] for values in (tables, lengths, counts))
    check(plan_of(AttentionPlanner(made_for), tables, lengths, counts), tables, lengths, counts)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_all_that_share_a_split_read_it_once(data: st.DataObject) -> None:
    made_for = options(data.draw(st.sampled_from([8, 32])))
    tables, lengths, counts = data.draw(trees(made_for.block_size, decodes=True))
    plan = plan_of(AttentionPlanner(made_for), tables, lengths, counts)
    assert runs(plan) == sharers(tables, lengths, made_for)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_plan_that_grew_equals_one_made_from_scratch(data: st.DataObject) -> None:
    made_for = options(data.draw(st.sampled_from([8, 16, 64])), window=data.draw(st.sampled_from([None, 40])))
    tables, lengths, counts = data.draw(trees(made_for.block_size, decodes=True))
    planner = AttentionPlanner(made_for)
    first = plan_of(planner, tables, lengths, counts)
    fresh = itertools.count(20000)
    steps = data.draw(st.integers(1, 31))
    for _ in range(steps):
        tables, lengths = grow(tables, lengths, made_for.block_size, fresh)
        plan = plan_of(planner, tables, lengths, counts)
        assert plan.build == first.build
        check(plan, tables, lengths, counts)
    if made_for.window is None:
        assert runs(plan) == runs(plan_of(AttentionPlanner(made_for), tables, lengths, counts))
    assert np.array_equal(plan.narrow[: len(first.narrow)], first.narrow)


def test_a_row_may_outgrow_its_places() -> None:
    planner = AttentionPlanner(options())
    tables: Tables = [[1, 2], [3], []]
    lengths = [20, 5, 0]
    fresh = itertools.count(10)
    first = plan = plan_of(planner, tables, lengths, [1, 1, 1])
    for _ in range(400):
        tables, lengths = grow(tables, lengths, 16, fresh)
        plan = plan_of(planner, tables, lengths, [1, 1, 1])
        check(plan, tables, lengths, [1, 1, 1])
    assert plan.build == first.build
    assert plan.partials > first.partials


def test_items_behind_the_window_go_in_time() -> None:
    planner = AttentionPlanner(options(window=10))
    tables: Tables = [[1]]
    lengths = [5]
    fresh = itertools.count(10)
    items = []
    for _ in range(300):
        tables, lengths = grow(tables, lengths, 16, fresh)
        plan = plan_of(planner, tables, lengths, [1])
        check(plan, tables, lengths, [1])
        items.append(len(plan.narrow))
    assert max(items) <= 4


def test_a_batch_that_changed_is_planned_again() -> None:
    planner = AttentionPlanner(options())
    tables: Tables = [[1, 2, 3, 4, 5], [1, 2, 6, 7], [8, 9, 10]]
    lengths = [70, 50, 40]
    build = plan_of(planner, tables, lengths, [1, 1, 1]).build
    changes: list[tuple[Tables, list[int], list[int]]] = [
        (tables, [72, 51, 41], [1, 1, 1]),  # two tokens at once
        (tables, lengths, [1, 1, 1]),  # back to what it was
        ([[1, 2, 3, 4, 5], [1, 2, 6, 7], [8, 11, 10]], [71, 51, 41], [1, 1, 1]),  # a block was swapped
        ([[1, 2, 6, 7], [1, 2, 3, 4, 5], [8, 11, 10]], [52, 72, 42], [1, 1, 1]),  # other order
        ([[1, 2, 6, 7], [1, 2, 3, 4, 5]], [53, 73], [1, 1]),  # one left
        ([[1, 2, 6, 7], [1, 2, 3, 4, 5]], [54, 74], [1, 6]),  # one is a chunk
        ([[1, 2, 6, 7], [1, 2, 3, 4, 5]], [55, 75], [1, 1]),
    ]
    for number, (new_tables, new_lengths, counts) in enumerate(changes, 1):
        plan = plan_of(planner, new_tables, new_lengths, counts)
        assert plan.build == build + number
        check(plan, new_tables, new_lengths, counts)


def test_a_split_that_fills_with_the_same_blocks_is_shared_from_then_on() -> None:
    planner = AttentionPlanner(options())
    tables: Tables = [[1, 2], [1, 2]]  # as if both wrote the same tokens to the same block
    assert runs(plan_of(planner, tables, [31, 31], [1, 1])) == {(0, frozenset({0})), (0, frozenset({1}))}
    assert runs(plan_of(planner, tables, [32, 32], [1, 1])) == {(0, frozenset({0, 1}))}


def test_runs_of_many_rows_become_wide_items_where_that_saves_enough() -> None:
    # Seven rows share a split: four narrow items of two rows, or two wide ones of at most four.
    tables: Tables = [[1, 2, 10 + row] for row in range(7)]
    lengths, counts = [33] * 7, [1] * 7
    cheap = plan_of(AttentionPlanner(options(wide_saving=2)), tables, lengths, counts)
    assert cheap.wide[:, 2].tolist() == [4, 3]
    assert len(cheap.narrow) == 7
    dear = plan_of(AttentionPlanner(options(wide_saving=3)), tables, lengths, counts)
    assert len(dear.wide) == 0
    assert sorted(dear.narrow[:, 2].tolist()) == [1] * 8 + [2] * 3
    alone = plan_of(AttentionPlanner(options(share=False)), tables, lengths, counts)
    assert sorted(alone.narrow[:, 2].tolist()) == [1] * 14


def test_few_new_tokens_over_a_history_go_split_by_split_and_share_it() -> None:
    made_for = options(few_rows=3)
    tables: Tables = [[1, 2, 3], [1, 2, 4], [1, 2, 5], [6, 7]]
    lengths, counts = [36, 40, 33, 20], [3, 4, 1, 2]
    plan = plan_of(AttentionPlanner(made_for), tables, lengths, counts)
    check(plan, tables, lengths, counts)
    # The second has too many new tokens, the last no split behind it.
    assert sorted(set(plan.tiles[:, 0].tolist())) == [1, 3]
    assert (0, frozenset({0, 1, 2, 7})) in runs(plan)


def test_a_thousand_sequences_of_any_length() -> None:
    rng = np.random.default_rng(3)
    tables, lengths, counts = [], [], []
    for row in range(1000):
        length = int(rng.integers(0, 300))
        shared = int(rng.integers(0, length // 16 + 1)) if row % 3 else 0
        tables.append(
            [*range(shared), *(1000 + 20 * row + entry for entry in range(-(-length // 16) - shared))]
        )
        lengths.append(length)
        counts.append(1)
    order = rng.permutation(1000).tolist()
    tables, lengths = [tables[place] for place in order], [lengths[place] for place in order]
    plan = plan_of(AttentionPlanner(options()), tables, lengths, counts)
    check(plan, tables, lengths, counts)
    assert runs(plan) == sharers(tables, lengths, plan.options)


def test_a_window_may_leave_all_that_was_shared_behind() -> None:
    tables: Tables = [[*range(300), 400], [*range(300), 500]]
    lengths = [300 * 16 + 5, 300 * 16 + 9]
    plan = plan_of(AttentionPlanner(options(window=12)), tables, lengths, [1, 1])
    check(plan, tables, lengths, [1, 1])
    assert runs(plan) == {(149, frozenset({0, 1})), (150, frozenset({0})), (150, frozenset({1}))}


@pytest.mark.parametrize("counts", [[], [0], [0, 0, 0]])
def test_nothing_to_do(counts: list[int]) -> None:
    plan = plan_of(AttentionPlanner(options()), [[1]] * len(counts), [16] * len(counts), counts)
    assert (len(plan.rows), len(plan.narrow), len(plan.wide), len(plan.tiles), plan.partials) == (
        0,
        0,
        0,
        0,
        0,
    )


@pytest.mark.parametrize("group", [1, 2, 3, 4, 8, 20, 32, 48, 71, 128])
def test_the_tiles_of_a_model_are_one_instructions(group: int) -> None:
    tiles = choose_tiles(group)
    assert tiles.one_instruction
    assert min(tiles.narrow.rows, tiles.wide.rows, tiles.prefill.rows) >= max(16, group)


def test_a_few_new_tokens_are_those_whose_partials_move_half_of_a_split() -> None:
    made_for = plan_options(32, 8, 128, 16)
    assert (made_for.narrow_rows, made_for.wide_rows, made_for.few_rows) == (4, 8, 8)
    narrow = plan_options(32, 8, 128, 16, tiles=Tiles(Tile(16), Tile(128), Tile(128)))
    partials = 2 * 4 * (128 + 2) * 4
    assert narrow.few_rows * partials <= 256 * 128 * 2 < (narrow.few_rows + 1) * partials


def test_decodes_take_two_warps_but_for_codes_that_would_spill() -> None:
    assert choose_tiles(4).narrow == Tile(16, warps=2)
    assert choose_tiles(4, 1.0).narrow == Tile(16, warps=2)
    assert choose_tiles(4, 0.5).narrow == Tile(16, warps=4)
    # One tile for few and for many rows needs no second launch.
    assert choose_tiles(20).narrow == choose_tiles(20).wide
