"""An engine whose thread ends by an error tells everybody who waits, refuses every later call, and frees
its memory.
"""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from radixcache import Engine, EngineClosedError, EngineConfig, EngineDeadError, SamplingParams
from radixcache.engine import thread as engine_thread
from radixcache.engine.loop import StepLoop
from radixcache.engine.runner import ModelRunner
from tests import tiny_models

LONG = SamplingParams(max_tokens=1500, ignore_eos=True)
PROMPT = list(range(3, 50))


def engine_of(**config: Any) -> Engine:
    return Engine(tiny_models.tiny("llama"), EngineConfig(**({"cache_tokens": 8192} | config)))


def refuses_everything(engine: Engine, reason: str) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: engine.submit(PROMPT),
        lambda: engine.generate([PROMPT, PROMPT]),
        lambda: engine.stream(PROMPT),
        lambda: engine.astream(PROMPT),
        lambda: asyncio.run(engine.agenerate(PROMPT)),
        engine.stats,
        engine.reset_cache,
    ]
    for call in calls:
        with pytest.raises(EngineDeadError, match=f"the engine stopped: .*{reason}"):
            call()
    engine.close()
    engine.close()
    left = engine.cache.stats()
    assert left.leases == 0
    assert left.free_blocks == engine.cache.num_blocks
    assert engine._loop.executor.runner._pool.storages == []


def dies(engine: Engine, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Have the engine's thread end by an error while a step is on its way."""

    def broken(self: StepLoop, *args: object) -> None:
        raise error

    monkeypatch.setattr(StepLoop, "step", broken)


def test_a_device_that_cannot_be_entered_is_told_to_every_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(device: torch.device) -> None:
        raise ValueError(f"Expected a cuda device with a specified index, but got: {device}")

    monkeypatch.setattr(engine_thread, "_enter", refuse)
    engine = engine_of()
    engine._thread._thread.join(timeout=30)
    refuses_everything(engine, "ValueError: Expected a cuda device")


@pytest.mark.parametrize(
    "error", [RuntimeError("out of luck"), MemoryError("out of luck"), SystemExit("out of luck")]
)
def test_everybody_who_waits_is_told_why(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(max_running=2)
    told: list[BaseException | None] = []
    called = threading.Event()
    handles = [engine.submit(PROMPT[i:], LONG) for i in range(4)]  # two run, two wait
    streamed = engine.submit(PROMPT, LONG)
    handles[0].when_done(lambda handle: (told.append(handle.exception()), called.set()))  # type: ignore[func-returns-value]
    results: list[BaseException] = []

    def wait(what: Callable[[], object]) -> None:
        try:
            what()
        except BaseException as caught:
            results.append(caught)

    async def in_a_loop() -> None:
        await handles[2].wait()

    waits: list[Callable[[], object]] = [
        handles[0].result,
        handles[3].result,
        lambda: list(streamed),
        lambda: asyncio.run(in_a_loop()),
    ]
    threads = [threading.Thread(target=wait, args=(what,)) for what in waits]
    for waiter in threads:
        waiter.start()
    while engine.stats().decode_tokens < 3:
        time.sleep(0.005)
    dies(engine, monkeypatch, error)
    for waiter in threads:
        waiter.join(timeout=30)
        assert not waiter.is_alive()
    assert called.wait(timeout=30)
    assert len(results) == len(waits)
    for failure in [*results, *told]:
        assert isinstance(failure, EngineDeadError)
        assert failure.__cause__ is error
    refuses_everything(engine, "out of luck")


def test_who_asks_while_the_engine_dies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of()
    asked = threading.Event()

    def question() -> None:
        asked.wait(timeout=30)
        raise SystemExit("out of luck")

    def ask(what: Callable[[], object]) -> None:
        try:
            what()
        except BaseException as caught:
            failures.append(caught)

    failures: list[BaseException] = []
    questions: list[Callable[[], object]] = [lambda: engine._thread.ask(question), engine.stats]
    threads = [threading.Thread(target=ask, args=(what,)) for what in questions]
    for waiter in threads:
        waiter.start()
        time.sleep(0.1)  # the second asks while the first is being answered
    handle = engine.submit(PROMPT)
    asked.set()
    for waiter in threads:
        waiter.join(timeout=30)
    assert [type(failure) for failure in failures] == [EngineDeadError, EngineDeadError]
    with pytest.raises(EngineDeadError):
        handle.result(timeout=30)
    refuses_everything(engine, "SystemExit: out of luck")


def test_an_error_of_a_question_is_the_askers_alone() -> None:
    def question() -> None:
        raise MemoryError("out of luck")

    with engine_of() as engine:
        with pytest.raises(MemoryError, match="out of luck"):
            engine._thread.ask(question)
        assert len(engine.generate(PROMPT, SamplingParams(max_tokens=2, ignore_eos=True))) == 1


def test_a_closed_engine_is_not_a_dead_one() -> None:
    engine = engine_of()
    running = engine.submit(PROMPT, LONG)
    closers = [threading.Thread(target=engine.close) for _ in range(3)]
    for closer in closers:
        closer.start()
    for closer in closers:
        closer.join(timeout=30)
        assert not closer.is_alive()
    assert running.result(timeout=1).finish_reason == "abort"
    for call in (engine.stats, engine.reset_cache, lambda: engine.submit(PROMPT)):
        with pytest.raises(EngineClosedError, match="the engine is closed"):
            call()
    assert engine._loop.executor.runner._pool.storages == []


def test_an_engine_can_be_closed_on_its_own_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of()
    forward = ModelRunner.forward

    def closing(self: ModelRunner, sequences: Any) -> torch.Tensor:
        assert engine.stats().running == 1
        engine.close()
        return forward(self, sequences)

    monkeypatch.setattr(ModelRunner, "forward", closing)
    assert engine.submit(PROMPT, LONG).result(timeout=30).finish_reason == "abort"
    engine.close()
    assert not engine._thread.is_alive()


def test_an_engine_is_neither_copied_nor_pickled() -> None:
    with engine_of() as engine, pytest.raises(TypeError, match="an engine cannot be copied or pickled"):
        pickle.dumps(engine)
