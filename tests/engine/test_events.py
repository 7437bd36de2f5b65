"""Deltas of a request: for every completion, as they come, and adding up to its result."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import aclosing, closing
from typing import Any

import pytest

from radixcache import Delta, Engine, EngineConfig, GenerationResult, RequestUsage, SamplingParams
from radixcache.engine.runner import ModelRunner
from tests.engine.letters import lettered

PROMPT = list(range(3, 50))
LONG = SamplingParams(max_tokens=1500, ignore_eos=True)


@pytest.fixture(params=[False, True], ids=["synchronous", "asynchronous"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with Engine(lettered(), EngineConfig(cache_tokens=8192, max_running=3)) as engine:
        engine._loop.executor.runner.asynchronous = request.param  # type: ignore[attr-defined]
        yield engine
        assert engine.cache.stats().leases == 0


def assert_adds_up(deltas: list[Delta], result: GenerationResult) -> None:
    for completion in result.completions:
        own = [delta for delta in deltas if delta.index == completion.index]
        assert "".join(delta.text for delta in own) == completion.text
        assert tuple(token for delta in own for token in delta.token_ids) == completion.token_ids
        assert [delta.finish_reason for delta in own] == [None] * (len(own) - 1) + [completion.finish_reason]
        if completion.logprobs is None:
            assert all(delta.logprobs is None for delta in own)
        else:
            assert tuple(one for delta in own for one in delta.logprobs or ()) == completion.logprobs


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"n": 5, "temperature": 1.0, "seed": 4},
        {"n": 2, "temperature": 1.0, "seed": 4, "logprobs": 2},
        {"stop": ("丏", "丧丁"), "temperature": 1.3, "seed": 1, "max_tokens": 40},
        {"stop_token_ids": tuple(range(20, 60)), "temperature": 1.0, "seed": 2, "max_tokens": 40},
    ],
)
def test_deltas_of_every_completion_add_up_to_the_result(kind: dict[str, Any], engine: Engine) -> None:
    handle = engine.submit(PROMPT, SamplingParams(**({"max_tokens": 7, "ignore_eos": True} | kind)))

    async def read() -> list[Delta]:
        return [delta async for delta in handle.aevents()]

    deltas = list(handle.events())
    assert_adds_up(deltas, handle.result())
    assert asyncio.run(read()) == deltas
    assert "".join(handle) == handle.result().text


def test_deltas_come_while_the_request_runs(engine: Engine) -> None:
    handle = engine.submit(PROMPT, LONG)
    with closing(handle.events()) as events:
        first = [next(events) for _ in range(3)]
        assert not handle.done
        assert sum(len(delta.token_ids) for delta in first) in (2, 3)
    assert handle.result(30).finish_reason == "abort"
    assert_adds_up(list(handle.events()), handle.result())


def test_usage_is_known_while_the_request_runs(engine: Engine) -> None:
    engine.generate(PROMPT, SamplingParams(max_tokens=1))
    handle = engine.submit([*PROMPT[:40], 100, 101], LONG)
    events = handle.events()
    next(events)
    usage = handle.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.cached_tokens) == (42, 40)
    assert sum(usage.misses.values()) == 2
    assert usage.completion_tokens >= 1
    usage.misses.clear()
    events.close()
    result = handle.result(30)
    assert handle.usage == RequestUsage(42, 40, result.completion_tokens, result.misses, result.diverged_at)


def test_usage_of_a_request_that_waits_is_not_known() -> None:
    with Engine(lettered(), EngineConfig(cache_tokens=8192, max_running=1)) as engine:
        running, waiting = engine.submit(PROMPT, LONG), engine.submit(PROMPT, LONG)
        next(running.events())
        assert waiting.usage is None


def test_leaving_events_ends_the_request(engine: Engine) -> None:
    async def leave_early(handle: Any) -> None:
        async with aclosing(handle.aevents()) as events:
            await anext(events)

    handles = [engine.submit(PROMPT, LONG) for _ in range(3)]
    handles[0].events()
    next(handles[1].events())
    asyncio.run(leave_early(handles[2]))
    gc.collect()
    for handle in handles:
        assert handle.result(30).finish_reason == "abort"
    assert engine.stats().decode_tokens < 1000


def test_events_raise_what_the_request_failed_with(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = engine.submit(PROMPT, LONG)
    events = handle.events()
    next(events)

    def broken(self: ModelRunner, sequences: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(ModelRunner, "forward", broken)
    with pytest.raises(RuntimeError, match="out of luck"):
        for _ in events:
            pass
    time.sleep(0)
    assert handle.usage is not None
