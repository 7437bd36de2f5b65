"""Which capacities of a curve are shown, and where its knee is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixcache.curve.curve import Curve, exact_curve
from radixcache.curve.points import knee_of, round_capacities, thinned_capacities
from tests.simulate.plain_lru import call


def round_robin(sizes: Sequence[int], rounds: int = 3) -> Curve:
    """One-block prompts of groups that come round after round: each group needs room for all of itself."""
    calls = []
    for group, size in enumerate(sizes):
        for _ in range(rounds):
            calls += [call([group * 1_000_000 + i]) for i in range(size)]
    return exact_curve(calls, 1)[0]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=6), st.sets(st.integers(1, 2000), max_size=3))
def test_thinned_capacities_leave_no_large_step_out(sizes: list[int], wanted: set[int]) -> None:
    curve = round_robin(sizes)
    chosen = thinned_capacities(curve, wanted)
    assert chosen == sorted(set(chosen))
    assert {curve.saturation, *wanted} <= set(chosen)
    for low, high in pairwise(chosen):
        assert high - low == 1 or curve.hit_rate(high) - curve.hit_rate(low) <= 0.005


def test_thinned_capacities_are_even_on_a_logarithmic_axis() -> None:
    chosen = thinned_capacities(round_robin([10_000], rounds=2))
    assert chosen[0] == 1
    assert max(high / low for low, high in pairwise(chosen) if low > 20) < 1.12
    assert len(chosen) < 150


def test_round_capacities_end_with_all_there_is() -> None:
    assert round_capacities(round_robin([1, 1, 30, 700])) == [20, 50, 100, 200, 500, 700]
    assert round_capacities(round_robin([20, 700]), most=3) == [100, 200, 500, 700]
    assert round_capacities(round_robin([3])) == [1, 2, 3]
    assert round_capacities(exact_curve([call([1])], 1)[0]) == []


def test_the_knee_is_where_most_is_had() -> None:
    # Forty rounds over 50 blocks give nearly all hits; 5,000 more blocks bring next to nothing.
    calls = [call([i]) for _ in range(400) for i in range(50)]
    calls += [call([1000 + i]) for _ in range(2) for i in range(5000)]
    curve, _ = exact_curve(calls, 1)
    assert curve.saturation == 5000
    assert knee_of(curve) == 50


@pytest.mark.parametrize("sizes", [[1], [2], [4000]])
def test_curves_that_only_rise_at_their_end_have_no_knee(sizes: list[int]) -> None:
    assert knee_of(round_robin(sizes)) is None


def test_the_knee_lies_above_the_chord() -> None:
    passes = [(300, 4), (100, 30), (30, 200), (10, 300)]
    calls = [call([i]) for size, times in passes for _ in range(times) for i in range(size)]
    curve, _ = exact_curve(calls, 1)
    knee = knee_of(curve)
    assert knee is not None
    bottom, top = curve.hit_rate(1), curve.hit_rate(curve.saturation)

    def height(capacity: int) -> float:
        share = (curve.hit_rate(capacity) - bottom) / (top - bottom)
        return share - math.log(capacity) / math.log(curve.saturation)

    assert height(knee) > 0
    assert height(knee) == max(height(c) for c in thinned_capacities(curve))
