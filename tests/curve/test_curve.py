"""The curve equals a plain LRU simulation at every capacity, and the published hit rates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from radixcache.curve.curve import Curve, exact_curve, sampled_curve
from radixcache.curve.distances import _weight_of_greater_before
from radixcache.logs import read_logs
from radixcache.logs.folders import expand_folders
from radixcache.models import EMBEDDED_MODEL
from radixcache.models.tokenizing import load_tokenizer
from radixcache.prompts.encode import PromptEncoder
from radixcache.simulate.simulate import Caches, simulate
from radixcache.workload.load import load_workload
from radixcache.workload.order import arrange
from radixcache.workload.settings import SimulateSettings
from radixcache.workload.spool import spill_to_disk
from radixcache.workload.workload import Call, Workload
from tests.simulate.plain_lru import call, logs, plain_lru_hits


def no_encoder() -> None:
    raise AssertionError("a trace needs no tokenizer")


def trace(*paths: Path) -> Workload:
    files = expand_folders(str(path) for path in paths)
    return load_workload(read_logs(files, trace_block=512), no_encoder)


@settings(max_examples=100, deadline=None)
@given(logs(), st.integers(1, 3))
def test_hits_equal_a_plain_lru_at_every_capacity(calls: list[Call], block_size: int) -> None:
    curve, references = exact_curve(calls, block_size)
    for capacity in range(references.num_blocks + 2):
        hits = sum(plain_lru_hits(calls, block_size, capacity))
        assert curve.cached_tokens(capacity) == hits * block_size
    assert curve.prompt_tokens == sum(c.prompt_tokens for c in calls)
    assert (curve.requests, curve.references) == (len(calls), len(references.ids))


@settings(deadline=None)
@given(logs())
def test_saturation_is_the_smallest_capacity_of_the_unbounded_rate(calls: list[Call]) -> None:
    curve, references = exact_curve(calls, 1)
    unbounded = curve.hit_rate(references.num_blocks + 1)
    assert curve.hit_rate(curve.saturation) == unbounded
    assert curve.saturation == 0 or curve.hit_rate(curve.saturation - 1) < unbounded


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=40))
def test_weighted_inversions_equal_two_loops(items: list[tuple[int, int]]) -> None:
    keys = np.array([key for key, _ in items], dtype=np.int64)
    weights = np.array([weight for _, weight in items], dtype=np.int64)
    expected = [sum(w for k, w in items[:i] if k > key) for i, (key, _) in enumerate(items)]
    assert _weight_of_greater_before(keys, weights).tolist() == expected


def test_a_prompt_longer_than_the_cache_leaves_its_head() -> None:
    calls = [call(range(10)), call(range(10))]
    curve, _ = exact_curve(calls, 1)
    assert [curve.cached_tokens(c) for c in (0, 1, 4, 10, 11)] == [0, 1, 4, 10, 10]


def test_tails_leave_before_heads() -> None:
    calls = [call([1, 2, 3]), call([7]), call([1, 2, 3])]
    curve, _ = exact_curve(calls, 1)
    assert [curve.cached_tokens(c) for c in (1, 2, 3, 4)] == [0, 1, 2, 3]


def test_namespaces_share_nothing() -> None:
    curve, _ = exact_curve([call([1, 2], namespace="a"), call([1, 2], namespace="b")], 1)
    assert curve.hit_rate(100) == 0.0


@pytest.mark.parametrize(
    ("block_size", "unit_tokens", "message"),
    [
        (0, 1, "block size must be at least 1, got 0"),
        (1000, 512, "block size must be a multiple of 512, the log's block size, got 1000"),
    ],
)
def test_block_sizes_that_do_not_fit_are_refused(block_size: int, unit_tokens: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        exact_curve([call([1])], block_size, unit_tokens)


def test_negative_capacities_are_refused() -> None:
    curve, _ = exact_curve([call([1])], 1)
    with pytest.raises(ValueError, match="capacity must be at least 0 blocks, got -1"):
        curve.cached_tokens(-1)


def test_an_empty_log_has_no_hits() -> None:
    curve, _ = exact_curve([], 16)
    assert (curve.hit_rate(5), curve.saturation, curve.prompt_tokens) == (0.0, 0, 0)


@pytest.fixture(scope="module")
def mooncake(shared_data: Path) -> Workload:
    return trace(shared_data / "mooncake_conversation.jsonl.xz")


@pytest.fixture(scope="module")
def mooncake_curve(mooncake: Workload) -> Curve:
    return exact_curve(mooncake.calls, 512, 512)[0]


@pytest.mark.data
def test_published_hit_rates_of_mooncake(mooncake_curve: Curve) -> None:
    curve = mooncake_curve
    assert (curve.cached_tokens(10**9), curve.prompt_tokens) == (54_063_104, 144_793_823)
    rates = [round(curve.hit_rate(c), 6) for c in (1_000, 10_000, 50_000, 10**9)]
    assert rates == [0.045933, 0.219254, 0.363238, 0.373380]


@pytest.mark.data
def test_published_hit_rate_of_weka_with_a_cache_for_each_file(shared_data: Path) -> None:
    workload = trace(shared_data / "weka")
    parts = [
        exact_curve([c for c in workload.calls if c.source == source], 64, 64)[0]
        for source in {c.source for c in workload.calls}
    ]
    assert len(parts) == 12
    assert sum(p.cached_tokens(p.saturation) for p in parts) == 27_173_504
    assert sum(p.prompt_tokens for p in parts) == 29_254_999


@pytest.mark.data
@pytest.mark.parametrize(("rate", "bound"), [(0.01, 0.04), (0.1, 0.015)])
def test_a_sample_is_near_the_exact_curve(
    mooncake: Workload, mooncake_curve: Curve, rate: float, bound: float
) -> None:
    exact = mooncake_curve
    sampled = sampled_curve(mooncake.calls, 512, 512, rate=rate)
    assert sampled.distinct_blocks == pytest.approx(exact.distinct_blocks, rel=0.001)
    for capacity in (300, 1_000, 3_000, 10_000, 30_000, 100_000, 10**9):
        error = abs(sampled.hit_rate(capacity) - exact.hit_rate(capacity))
        assert error < bound
        assert error <= 3 * sampled.standard_error(capacity) + 0.001


@settings(deadline=None)
@given(logs(), st.integers(1, 3), st.integers(1, 2))
def test_prompts_on_disk_give_the_same_curve(calls: list[Call], block_size: int, repeat: int) -> None:
    arrangement = SimulateSettings(interleave=2, repeat=repeat)
    curves = []
    for kept in (calls, list(spill_to_disk(calls))):
        ordered = arrange(Workload(1, kept), arrangement).calls
        curve, references = exact_curve(ordered, block_size)
        curves.append((curve.requests, curve.prompt_tokens, references.ids.tolist()))
    assert curves[0] == curves[1]


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.5, float("nan")])
def test_shares_that_are_none_are_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="sample must be above 0 and at most 1"):
        sampled_curve([call([1])], 1, rate=rate)


def test_too_small_a_sample_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sample is 0.01, too little for 30 blocks"):
        sampled_curve([call(range(30))], 1, rate=0.01)


def test_a_sample_of_everything_is_exact() -> None:
    calls = [call([n % 37, *range(n % 11 * 3)]) for n in range(400)]
    exact, _ = exact_curve(calls, 1)
    sampled = sampled_curve(calls, 1, rate=1.0)
    for capacity in range(exact.saturation + 3):
        assert sampled.cached_tokens(capacity) == pytest.approx(exact.cached_tokens(capacity), abs=1)


@pytest.mark.data
@pytest.mark.model
def test_published_hit_rates_of_a_coding_agent(shared_data: Path) -> None:
    def encoder() -> PromptEncoder:
        return PromptEncoder(load_tokenizer(EMBEDDED_MODEL), EMBEDDED_MODEL)

    workload = load_workload(read_logs([str(shared_data / "miniswe.jsonl.xz")]), encoder)
    curve, _ = exact_curve(workload.calls, 16)
    assert curve.prompt_tokens == 2_967_441
    assert max(c.prompt_tokens for c in workload.calls) > 16_000, "some do not fit into 1,000 blocks"
    assert [round(curve.hit_rate(c), 6) for c in (1_000, 10_000)] == [0.756876, 0.934796]
    by_token, _ = exact_curve(workload.calls, 1)
    assert round(by_token.hit_rate(by_token.saturation), 6) == 0.935835


@settings(max_examples=30, deadline=None)
@given(logs(12), st.integers(1, 3))
def test_simulate_gives_the_same_by_whole_blocks(calls: list[Call], block_size: int) -> None:
    calls = [c for c in calls if c.units]
    assume(calls)
    curve, references = exact_curve(calls, block_size)
    capacities = range(1, references.num_blocks + 2)
    outcome = simulate(
        Workload(1, calls),
        Caches(["lru"], capacities, [block_size]),
        SimulateSettings(whole_blocks=True),
    )
    found = [result.cached_tokens_whole_blocks for result in outcome.report.results]
    assert found == [curve.cached_tokens(capacity) for capacity in capacities]
