"""The clairvoyant bound against trying everything, and on a published trace."""

from __future__ import annotations

import itertools
import json
import lzma
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixcache.simulate.clairvoyant import clairvoyant_hits, clairvoyant_hits_per_call

TRACE = Path(__file__).parents[3] / "shared" / "data" / "mooncake_conversation.jsonl.xz"


def paths(prompts: list[str]) -> list[list[int]]:
    """Prompts as dense ids of their prefixes."""
    ids: dict[str, int] = {}
    return [[ids.setdefault(p[: i + 1], len(ids)) for i in range(len(p))] for p in prompts]


def best_of_all(calls: list[list[int]], capacity: int) -> int:
    """The most hits over every choice of a prefix-closed set to keep after each call."""
    parent = {b: (c[i - 1] if i else None) for c in calls for i, b in enumerate(c)}
    reached: dict[frozenset[int], int] = {frozenset(): 0}
    for call in calls:
        after: dict[frozenset[int], int] = {}
        for kept, hits in reached.items():
            found = hits + sum(1 for _ in itertools.takewhile(kept.__contains__, call))
            there = sorted(kept | set(call))
            for size in range(min(capacity, len(there)) + 1):
                for choice in itertools.combinations(there, size):
                    chosen = frozenset(choice)
                    if all(parent[b] is None or parent[b] in chosen for b in chosen):
                        after[chosen] = max(after.get(chosen, 0), found)
        reached = after
    return max(reached.values())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=6),
    st.integers(min_value=1, max_value=4),
)
def test_no_choice_of_what_to_keep_gets_more_hits(prompts: list[str], capacity: int) -> None:
    calls = paths(prompts)
    assert clairvoyant_hits(calls, capacity) == best_of_all(calls, capacity)


def test_hits_of_each_call() -> None:
    calls = paths(["abc", "xyz", "abd", "xyz", "abc"])
    assert clairvoyant_hits_per_call(calls, 100) == [0, 0, 2, 3, 3]
    assert clairvoyant_hits_per_call(calls, 3) == [0, 0, 2, 1, 2]
    assert clairvoyant_hits_per_call([], 3) == []
    assert clairvoyant_hits_per_call([[], [0], [0]], 1) == [0, 0, 1]


def test_a_capacity_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity must be at least 1 block, got 0"):
        clairvoyant_hits([[0]], 0)


@pytest.mark.skipif(not TRACE.exists(), reason=f"{TRACE.name} is not there")
def test_known_bounds_of_a_published_trace() -> None:
    with lzma.open(TRACE, "rt") as lines:
        calls = [json.loads(line)["hash_ids"] for line in lines]
    total = sum(map(len, calls))
    assert clairvoyant_hits(calls, 3_000) / total == pytest.approx(0.294, abs=0.0006)
    assert clairvoyant_hits(calls, 10_000) / total == pytest.approx(0.366, abs=0.0006)
