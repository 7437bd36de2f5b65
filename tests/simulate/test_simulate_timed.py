"""Arrivals by timestamp: requests hold their blocks, wait for room, and publish when they have computed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from radixcache.simulate.results import SimulatedRequest, SimulateResult
from radixcache.simulate.simulate import Caches, simulate
from radixcache.workload.settings import SimulateSettings
from radixcache.workload.workload import Call, Workload
from tests.simulate.workloads import call

FIRST, SECOND = list(range(100, 108)), list(range(200, 208))


def run(
    calls: Sequence[Call], capacity: int | None, **options: object
) -> tuple[SimulateResult, list[SimulatedRequest]]:
    """Blocks of 4; a prompt token takes 1 s, an answer's token 10 s."""
    settings = SimulateSettings(
        **{"arrivals": "timestamps", "prefill_speed": 1.0, "decode_speed": 0.1, **options}  # type: ignore[arg-type]
    )
    outcome = simulate(Workload(1, calls), Caches(["lru"], [capacity], [4]), settings, keep_records=True)
    return outcome.report.results[0], outcome.records


def test_what_is_not_computed_yet_is_not_reused() -> None:
    calls = [call(FIRST, timestamp=0.0), call(FIRST, timestamp=7.9), call(FIRST, timestamp=30.0)]
    _, records = run(calls, None)
    assert [r.cached_tokens for r in records] == [0, 0, 7]


def test_a_prefill_is_published_before_its_answer_ends() -> None:
    calls = [call(FIRST, output=[1, 2], timestamp=0.0), call(FIRST, timestamp=9.0)]
    _, records = run(calls, None)
    assert records[1].cached_tokens == 7


def test_a_request_without_room_waits_for_a_running_one_to_end() -> None:
    calls = [call(FIRST, timestamp=0.0), call(SECOND, timestamp=1.0), call(SECOND, timestamp=20.0)]
    result, records = run(calls, 2)
    assert result.waited == 1
    assert result.too_large == 0
    # The second prompt started at 8 s in the place of the first, and was computed by 16 s. To reuse all but
    # its last token takes a third block to copy to, so only a whole block is.
    assert [r.cached_tokens for r in records] == [0, 0, 4]


def test_those_that_wait_start_in_order_of_arrival() -> None:
    small = [1, 2, 3, 4]
    calls = [call(FIRST, timestamp=0.0), call(SECOND, timestamp=1.0), call(small, timestamp=2.0)]
    result, _ = run(calls, 3)
    assert result.waited == 2, "the small one would have had room, but did not overtake"


def test_a_prompt_larger_than_the_cache_keeps_nobody_waiting() -> None:
    calls = [call(range(40), timestamp=0.0), call(FIRST, timestamp=1.0), call(FIRST, timestamp=40.0)]
    result, records = run(calls, 3)
    assert result.too_large == 1
    assert result.waited == 0
    assert [r.cached_tokens for r in records] == [0, 0, 7]


def test_requests_are_taken_in_order_of_time_and_speed_divides_it() -> None:
    calls = [call(FIRST, timestamp=20.0, line=1), call(FIRST, timestamp=0.0, line=2)]
    _, records = run(calls, None)
    assert [(r.line, r.cached_tokens) for r in records] == [(2, 0), (1, 7)]
    _, records = run(calls, None, speed=10.0)
    assert [r.cached_tokens for r in records] == [0, 0]


def test_a_repetition_begins_after_the_log() -> None:
    calls = [call(FIRST, timestamp=0.0), call(SECOND, timestamp=100.0)]
    _, records = run(calls, None, repeat=3)
    assert [r.cached_tokens for r in records] == [0, 0, 7, 7, 7, 7]


def test_turns_and_times_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="interleave reorders the log"):
        SimulateSettings(arrivals="timestamps", interleave=2)
