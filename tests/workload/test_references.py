"""Blocks are named by namespace and prefix, densely, in order of appearance."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixcache.workload.references import block_references, read_references
from radixcache.workload.workload import Call
from tests.simulate.plain_lru import call, logs


@settings(deadline=None)
@given(logs(), st.integers(1, 3))
def test_ids_are_those_of_a_dict_of_prefixes(calls: list[Call], block_units: int) -> None:
    names: dict[tuple[str, bytes], int] = {}
    expected = []
    for request in calls:
        width = 4 * block_units
        prefixes = [request.units[:end] for end in range(width, len(request.units) + 1, width)]
        expected.append([names.setdefault((request.namespace, p), len(names)) for p in prefixes])
    assert [list(ids) for ids in block_references(calls, block_units)] == expected
    assert read_references(calls, block_units).num_blocks == len(names)


def test_equal_blocks_after_different_prefixes_are_different() -> None:
    (first, second) = block_references([call([1, 2, 9, 9]), call([3, 4, 9, 9])], 2)
    assert (list(first), list(second)) == ([0, 1], [2, 3])


def test_a_last_unit_that_stands_for_fewer_tokens_is_no_whole_block() -> None:
    calls = [call([1, 2, 3], prompt_tokens=1500), call([1, 2, 3], prompt_tokens=1536)]
    assert [len(ids) for ids in block_references(calls, 1, 512)] == [2, 3]
    assert [len(ids) for ids in block_references(calls, 2, 512)] == [1, 1]


def test_tokens_that_no_unit_stands_for_are_no_blocks() -> None:
    assert [len(ids) for ids in block_references([call([1, 2], prompt_tokens=200)], 1, 64)] == [2]


def test_a_trace_taken_for_text_is_refused() -> None:
    with pytest.raises(ValueError, match="log, line 7: 1500 tokens in 3 units"):
        list(block_references([call([1, 2, 3], prompt_tokens=1500, line=7)], 1))


@pytest.mark.parametrize(
    ("block_units", "unit_tokens", "name"), [(0, 1, "block_units"), (1, 0, "unit_tokens")]
)
def test_sizes_below_one_are_refused(block_units: int, unit_tokens: int, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        list(block_references([call([1])], block_units, unit_tokens))
