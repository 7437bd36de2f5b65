"""A bounded queue, requests that run out of time, and priorities."""

from __future__ import annotations

import pickle
import time
from typing import Any

import pytest

from radixcache import EngineOverloadedError, SamplingParams
from radixcache.engine.runner import ModelRunner
from tests.engine.conftest import MakeEngine

PROMPT = list(range(3, 50))
LONG = SamplingParams(max_tokens=1500, ignore_eos=True)
SHORT = SamplingParams(max_tokens=3, ignore_eos=True)


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_request_beyond_the_bound_is_refused_with_the_numbers(make_engine: MakeEngine) -> None:
    engine = make_engine(max_running=1, max_waiting=2)
    running = engine.submit(PROMPT, LONG)
    wait_for(lambda: engine.stats().decode_tokens > 0)
    waiting = [engine.submit(PROMPT, SHORT) for _ in range(2)]
    with pytest.raises(EngineOverloadedError, match="2 requests wait, max_waiting is 2") as refused:
        engine.submit(PROMPT, SHORT)
    assert (refused.value.waiting, refused.value.max_waiting) == (2, 2)
    assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)
    with pytest.raises(EngineOverloadedError):
        engine.generate([PROMPT, PROMPT], SHORT)
    waiting.pop().abort()
    wait_for(lambda: engine.stats().waiting == 1)
    waiting.append(engine.submit(PROMPT, SHORT))
    running.abort()
    for handle in waiting:
        assert len(handle.result(60).token_ids) == 3
    for _ in range(5):  # every place was given back
        assert [len(result.token_ids) for result in engine.generate([PROMPT] * 3, SHORT)] == [3, 3, 3]


def test_a_burst_that_an_idle_engine_has_room_for_is_not_refused(make_engine: MakeEngine) -> None:
    engine = make_engine(max_running=8, max_waiting=0)
    for _ in range(3):
        assert len(engine.generate([PROMPT] * 8, SHORT)) == 8


def test_a_submission_that_fails_takes_no_place(make_engine: MakeEngine) -> None:
    engine = make_engine(max_running=1, max_waiting=0)
    for _ in range(3):
        with pytest.raises(ValueError, match="outside the vocabulary"):
            engine.submit([5, 10**6], SHORT)
    assert len(engine.generate(PROMPT, SHORT)) == 1


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "1", True])
def test_a_timeout_that_is_none_is_refused(timeout: Any, make_engine: MakeEngine) -> None:
    with pytest.raises(ValueError, match="timeout must be a finite number of seconds above 0, got"):
        make_engine().submit(PROMPT, SHORT, timeout=timeout)


def test_a_request_that_runs_out_of_time_has_what_was_generated(make_engine: MakeEngine) -> None:
    engine = make_engine()
    other = engine.submit(list(range(60, 90)), SamplingParams(max_tokens=60, ignore_eos=True))
    several = SamplingParams(max_tokens=1500, n=2, temperature=1.0, ignore_eos=True)
    late = engine.submit(PROMPT, several, timeout=0.5)
    result = late.result(60)
    assert [completion.finish_reason for completion in result.completions] == ["timeout", "timeout"]
    assert 0 < len(result.token_ids) < 1500
    assert result.latency >= 0.5
    assert list(late.events())[-1].finish_reason == "timeout"
    assert len(other.result(60).token_ids) == 60
    in_time = engine.submit(PROMPT, SHORT, timeout=60)
    assert in_time.result(60).finish_reason == "length"


def test_a_request_runs_out_of_time_while_it_waits(make_engine: MakeEngine) -> None:
    engine = make_engine(max_running=1)
    running = engine.submit(PROMPT, LONG)
    result = engine.submit(list(range(60, 90)), SHORT, timeout=0.2).result(60)
    assert (result.finish_reason, result.token_ids, result.cached_tokens) == ("timeout", (), 0)
    assert not running.done
    running.abort()


def test_the_highest_priority_runs_first(make_engine: MakeEngine) -> None:
    engine = make_engine(max_running=1)
    running = engine.submit(PROMPT, LONG)
    wait_for(lambda: engine.stats().running == 1)
    ended: list[int] = []
    handles = []
    for priority in (0, -5, 7, 3, 7):
        handle = engine.submit([5, 6, len(handles) + 10], SHORT, priority=priority)
        handle.when_done(lambda _handle, priority=priority: ended.append(priority))  # type: ignore[misc]
        handles.append(handle)
    running.abort()
    for handle in handles:
        handle.result(60)
    wait_for(lambda: len(ended) == 5)
    assert ended == [7, 7, 3, 0, -5]


def test_a_low_priority_is_overtaken_only_so_often(make_engine: MakeEngine) -> None:
    engine = make_engine(max_running=1, max_passes=4)
    running = engine.submit(PROMPT, LONG)
    wait_for(lambda: engine.stats().running == 1)
    low = engine.submit([5, 6, 7], SHORT, priority=-1)
    high = [engine.submit([5, 6, 8 + at], SHORT, priority=1) for at in range(30)]
    running.abort()
    low.result(60)
    assert sum(handle.done for handle in high) < 10
    for handle in high:
        handle.result(60)


def test_blocks_are_taken_from_the_lowest_priority(make_engine: MakeEngine) -> None:
    engine = make_engine(cache_tokens=512, block_size=8, max_batch_tokens=256)
    params = SamplingParams(max_tokens=200, ignore_eos=True)
    first: dict[str, float] = {}
    low = engine.submit(list(range(3, 60)), params, priority=0)
    wait_for(lambda: engine.stats().running == 1)
    handles = {"high": engine.submit(list(range(40, 100)), params, priority=5), "low": low}
    for name, handle in handles.items():
        handle.when_done(lambda _handle, name=name: first.setdefault(name, time.perf_counter()))  # type: ignore[misc]
    for handle in handles.values():
        assert len(handle.result(120).token_ids) == 200
    stats = engine.stats()
    assert stats.preemptions > 0
    wait_for(lambda: len(first) == 2)
    assert first["high"] < first["low"]  # though it came later


@pytest.mark.parametrize("n", [4, 9])
def test_no_more_run_than_may_though_requests_ask_for_several(
    n: int, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(max_running=2)
    forward, most = ModelRunner.forward, []

    def counting(self: ModelRunner, sequences: Any) -> Any:
        most.append(len(sequences))
        return forward(self, sequences)

    monkeypatch.setattr(ModelRunner, "forward", counting)
    params = SamplingParams(max_tokens=6, n=n, temperature=1.0, seed=1, ignore_eos=True)
    results = engine.generate([PROMPT, PROMPT[::-1]], params)
    assert [len(result.completions) for result in results] == [n, n]
    assert all(len(completion.token_ids) == 6 for result in results for completion in result.completions)
    assert max(most) == 2
