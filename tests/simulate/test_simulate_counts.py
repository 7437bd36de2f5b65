"""Both rules of counting, against naive caches that keep prefixes in plain dicts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixcache.cache.eviction import policies
from radixcache.errors import LogError
from radixcache.simulate.results import SimulateResult
from radixcache.simulate.simulate import Caches, simulate
from radixcache.workload.settings import SimulateSettings
from radixcache.workload.workload import Workload
from tests.naive import lcp
from tests.simulate.workloads import call, trace, workload


def results(
    load: Workload, capacities: Sequence[int | None], block_size: int | None = None, **options: object
) -> list[SimulateResult]:
    caches = Caches(["lru"], capacities, [] if block_size is None else [block_size])
    return list(simulate(load, caches, SimulateSettings(**options)).report.results)  # type: ignore[arg-type]


def naive_whole_blocks(prompts: Sequence[Sequence[int]], block: int, capacity: int) -> int:
    """Hit tokens of an LRU cache of prefixes in whole blocks that evicts tails before heads."""
    cache: OrderedDict[tuple[int, ...], None] = OrderedDict()
    hits = 0
    for prompt in prompts:
        blocks = [tuple(prompt[:end]) for end in range(block, len(prompt) + 1, block)]
        known = 0
        while known < len(blocks) and blocks[known] in cache:
            known += 1
        hits += known * block
        for prefix in reversed(blocks):
            cache[prefix] = None
            cache.move_to_end(prefix)
        while len(cache) > capacity:
            cache.popitem(last=False)
    return hits


PROMPTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=14), min_size=1, max_size=25)


@settings(max_examples=150, deadline=None)
@given(PROMPTS, st.integers(1, 3), st.integers(1, 12))
def test_whole_blocks_are_counted_as_a_naive_lru_cache_counts(
    prompts: list[list[int]], block: int, capacity: int
) -> None:
    bounded, unbounded = results(workload(*prompts), [capacity, None], block)
    assert bounded.cached_tokens_whole_blocks == naive_whole_blocks(prompts, block, capacity)
    assert unbounded.cached_tokens_whole_blocks == naive_whole_blocks(prompts, block, 10**6)
    (alone,) = results(workload(*prompts), [capacity], block, whole_blocks=True)
    assert alone.cached_tokens == alone.cached_tokens_whole_blocks == bounded.cached_tokens_whole_blocks


@settings(max_examples=60, deadline=None)
@given(PROMPTS, st.integers(1, 3), st.integers(1, 12))
def test_nothing_beats_the_clairvoyant_bound(prompts: list[list[int]], block: int, capacity: int) -> None:
    caches = Caches([*policies, "clairvoyant"], [capacity, None], [block])
    found = simulate(workload(*prompts), caches, SimulateSettings(), keep_records=True)
    for size in (capacity, None):
        *real, bound = [r for r in found.report.results if r.capacity_blocks == size]
        assert bound.policy == "clairvoyant"
        assert bound.evictions is None
        assert all(r.cached_tokens_whole_blocks <= bound.cached_tokens_whole_blocks for r in real)
        of_bound = [r for r in found.records if (r.policy, r.capacity_blocks) == ("clairvoyant", size)]
        assert [r.cached_tokens for r in of_bound] == [
            min(r.cached_tokens_whole_blocks, r.prompt_tokens - 1) for r in of_bound
        ]
    assert {r.cached_tokens_whole_blocks for r in found.report.results if r.capacity_blocks is None} == {
        naive_whole_blocks(prompts, block, 10**6)
    }


@settings(max_examples=100, deadline=None)
@given(PROMPTS, st.integers(1, 4))
def test_what_is_served_unbounded_is_the_longest_common_prefix(prompts: list[list[int]], block: int) -> None:
    (result,) = results(workload(*prompts), [None], block)
    expected = 0
    for i, prompt in enumerate(prompts):
        known = max((lcp(prompt, earlier) for earlier in prompts[:i]), default=0)
        if block == 1 or known >= 1:
            expected += min(known, len(prompt) - 1)
    assert result.cached_tokens == expected
    assert result.evictions == 0


def test_a_full_hit_in_a_trace_costs_one_token_and_not_one_block() -> None:
    load = trace(512, ([0, 1], 1000), ([0, 1], 1000), ([0, 1, 2], 1300), ([0, 1], 1024), ([0, 1], 1024))
    (result,) = results(load, [None])
    assert result.block_size == 512
    assert result.cached_tokens == 999 + 1024 + 1023 + 1023
    assert result.cached_tokens_whole_blocks == 512 + 512 + 1024 + 1024


def test_a_trace_may_be_simulated_in_blocks_of_several_hashes() -> None:
    load = trace(64, ([0, 1, 2, 3], 256), ([0, 1, 2, 4], 256), ([0, 1, 2, 3], 256))
    (result,) = results(load, [None], 128)
    assert result.cached_tokens == 192 + 255
    assert result.cached_tokens_whole_blocks == 128 + 256


def test_block_size_must_be_a_multiple_of_what_a_hash_stands_for() -> None:
    with pytest.raises(ValueError, match=r"block_size must be a multiple of 64, .*, got 100"):
        results(trace(64, ([0], 64)), [None], 100)


def test_a_prompt_larger_than_the_cache_is_counted_and_harms_nothing() -> None:
    long = list(range(40))
    (result,) = results(workload([1, 2, 3, 4], long, [1, 2, 3, 4], long), [2], 4)
    assert result.too_large == 2
    assert result.cached_tokens == 3
    assert result.requests == 4
    assert result.prompt_tokens == 88
    assert result.cached_tokens_whole_blocks == 4, "one block of the long prompt's head was still there"


def test_prompts_in_different_namespaces_share_nothing() -> None:
    calls = [call(range(8), namespace=name) for name in ("a", "b", "a")]
    (result,) = results(Workload(1, calls), [None], 4)
    assert result.cached_tokens == 7
    assert result.cached_tokens_whole_blocks == 8


def test_answers_are_cached_only_if_asked_for() -> None:
    load = Workload(1, [call(range(6), output=range(6, 11)), call(range(12))])
    (without,) = results(load, [None], 4)
    (with_answers,) = results(load, [None], 4, outputs=True)
    assert (without.cached_tokens, without.cached_tokens_whole_blocks) == (6, 4)
    assert (with_answers.cached_tokens, with_answers.cached_tokens_whole_blocks) == (11, 8)


def test_an_answer_that_finds_no_room_is_not_cached() -> None:
    load = Workload(1, [call(range(8), output=range(8, 16)), call(range(8))])
    (result,) = results(load, [3], 4, outputs=True)
    assert result.cached_tokens == 7


def test_a_repeated_log_finds_what_the_first_pass_left() -> None:
    once, twice = (results(workload([1] * 8, [2] * 8), [None], 4, repeat=n)[0] for n in (1, 2))
    assert (once.cached_tokens_whole_blocks, twice.cached_tokens_whole_blocks) == (0, 16)
    assert (twice.requests, twice.prompt_tokens) == (4, 32)


def test_sessions_in_turns_press_on_a_small_cache() -> None:
    turns = [list(range(s * 100, s * 100 + n)) for s in range(4) for n in (4, 8, 12)]
    calls = [call(turn, session=str(turn[0])) for turn in turns]
    (alone,) = results(Workload(1, calls), [4], 4)
    (mixed,) = results(Workload(1, calls), [4], 4, interleave=4)
    assert alone.cached_tokens_whole_blocks == 4 * (4 + 8)
    assert mixed.cached_tokens_whole_blocks < alone.cached_tokens_whole_blocks


def test_policies_and_sizes_are_checked_before_anything_runs() -> None:
    with pytest.raises(ValueError, match="unknown eviction policy 'best'"):
        Caches(["lru", "best"], [None])
    with pytest.raises(ValueError, match="capacities names 7 twice"):
        Caches(["lru"], [7, 8, 7])
    with pytest.raises(ValueError, match="capacity must be at least 1 block, got 0"):
        Caches(["lru"], [0])
    with pytest.raises(ValueError, match="block_size must be at least 1, got 0"):
        Caches(["lru"], [1], [0])


def test_records_add_up_to_the_result() -> None:
    load = workload(*[[i % 3, 1, 2, 3, i] * 3 for i in range(9)])
    outcome = simulate(load, Caches(["lru"], [5, None], [2, 4]), SimulateSettings(), keep_records=True)
    assert len(outcome.records) == 4 * 9
    for result in outcome.report.results:
        of_run = [
            r
            for r in outcome.records
            if (r.capacity_blocks, r.block_size) == (result.capacity_blocks, result.block_size)
        ]
        assert [r.index for r in of_run] == list(range(9))
        assert sum(r.cached_tokens for r in of_run) == result.cached_tokens
        assert sum(r.cached_tokens_whole_blocks for r in of_run) == result.cached_tokens_whole_blocks
        assert sum(r.too_large for r in of_run) == result.too_large


def test_missing_timestamp_is_named() -> None:
    with pytest.raises(LogError, match="log, line 2: timestamp is missing"):
        results(Workload(1, [call([1], timestamp=1.0), call([2], line=2)]), [None], arrivals="timestamps")
