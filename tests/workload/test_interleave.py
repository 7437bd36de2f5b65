"""Sessions take turns; each keeps its order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixcache.workload.interleave import interleave

Item = tuple[str | None, int]


def order(items: list[Item], active: int) -> str:
    return " ".join(f"{session}{n}" for session, n in interleave(items, active, lambda item: item[0]))


LOG: list[Item] = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("c", 0), ("c", 1)]


def test_two_sessions_alternate_and_the_next_takes_the_place_of_one_that_ends() -> None:
    assert order(LOG, 2) == "a0 b0 a1 c0 a2 c1"


def test_one_session_at_a_time_groups_the_log_by_session() -> None:
    scattered: list[Item] = [("a", 0), ("b", 0), ("a", 1), ("c", 0), ("a", 2), ("c", 1)]
    assert order(scattered, 1) == "a0 a1 a2 b0 c0 c1"


def test_more_turns_than_sessions() -> None:
    assert order(LOG, 99) == "a0 b0 c0 a1 c1 a2"


def test_without_a_session_every_item_is_its_own() -> None:
    assert order([(None, 0), (None, 1), ("a", 0), ("a", 1)], 2) == "None0 None1 a0 a1"


def test_nothing_to_do() -> None:
    assert interleave([], 3, lambda item: None) == []


def test_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="interleave must be at least 1, got 0"):
        interleave([1], 0, lambda item: None)


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcde")), st.integers(1, 7))
def test_each_item_once_in_its_sessions_order_and_no_more_sessions_open(
    sessions: list[str], active: int
) -> None:
    items = [(session, position) for position, session in enumerate(sessions)]
    result = interleave(items, active, lambda item: item[0])
    assert sorted(result) == sorted(items)
    started: dict[str, int] = {}
    for position, (session, _) in enumerate(result):
        started.setdefault(session, position)
    for session in started:
        own = [n for s, n in result if s == session]
        assert own == sorted(own)
    ends = {session: max(i for i, item in enumerate(result) if item[0] == session) for session in started}
    for position in range(len(result)):
        assert sum(started[s] <= position <= ends[s] for s in started) <= active
