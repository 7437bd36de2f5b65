"""What is called when a request has ended runs apart from the engine, and may do anything."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from radixcache import Engine, RequestFailedError, RequestHandle, SamplingParams
from radixcache.engine.runner import ModelRunner
from tests.engine.conftest import MakeEngine

SHORT = SamplingParams(max_tokens=4, ignore_eos=True)
LONG = SamplingParams(max_tokens=1500, ignore_eos=True)
PROMPT = list(range(3, 50))


def in_a_callback(engine: Engine, call: Callable[[], Any]) -> Any:
    """What `call` returns when a callback calls it; fails if it does not return."""
    returned: list[Any] = []
    called = threading.Event()

    def callback(_: RequestHandle) -> None:
        try:
            returned.append(call())
        finally:
            called.set()

    handle = engine.submit(PROMPT, LONG)
    handle.when_done(callback)
    handle.abort()
    assert called.wait(timeout=30)
    return returned[0]


def test_a_callback_may_call_every_method(make_engine: MakeEngine) -> None:
    engine = make_engine()
    other = engine.submit(list(range(60, 90)), LONG)
    assert in_a_callback(engine, engine.stats).cache.requests >= 1
    assert len(in_a_callback(engine, lambda: engine.generate([PROMPT, PROMPT], SHORT))) == 2
    assert in_a_callback(engine, lambda: engine.submit(PROMPT, SHORT)).result(timeout=30)
    assert in_a_callback(engine, lambda: "".join(engine.stream(PROMPT, SHORT))) == ""
    in_a_callback(engine, other.abort)
    assert other.result(timeout=30).finish_reason == "abort"
    in_a_callback(engine, engine.reset_cache)
    assert len(engine.generate(PROMPT, SHORT)[0].token_ids) == 4


def test_a_callback_may_close_the_engine() -> None:
    from tests import tiny_models

    engine = Engine(tiny_models.tiny("llama"))
    in_a_callback(engine, engine.close)
    assert not engine._thread.is_alive()


def test_a_callback_that_raises_is_logged_and_harms_nobody(
    make_engine: MakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine()
    raised = threading.Event()

    def callback(error: BaseException) -> Callable[[RequestHandle], None]:
        def call(_: RequestHandle) -> None:
            raised.set()
            raise error

        return call

    expected = engine.generate(PROMPT, SHORT)[0].token_ids
    with caplog.at_level(logging.ERROR):
        beside = engine.submit(PROMPT[5:], LONG)
        for error in (ZeroDivisionError("mine"), SystemExit("mine")):
            handle = engine.submit(PROMPT, SHORT)
            handle.when_done(callback(error))
            assert handle.result(timeout=30).token_ids == expected
            assert raised.wait(timeout=30)
            raised.clear()
        aborted = engine.submit(PROMPT, LONG)
        aborted.when_done(callback(ZeroDivisionError("mine")))
        aborted.abort()
        assert aborted.result(timeout=30).finish_reason == "abort"
        aborted.when_done(callback(ZeroDivisionError("mine")))  # done already: called at once
        assert raised.is_set()
        assert not beside.done
        beside.abort()
        beside.result(timeout=30)
        in_a_callback(engine, lambda: None)  # the earlier ones have been called
    assert caplog.text.count("a callback raised") == 4


def test_a_callback_is_told_of_success_abort_and_failure(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    told: dict[str, str] = {}
    all_told = threading.Semaphore(0)

    def note(handle: RequestHandle) -> None:
        assert handle.done
        error = handle.exception()
        told[handle.request_id] = repr(error) if error else handle.result().finish_reason
        all_told.release()

    engine.submit(PROMPT, SHORT, request_id="finished").when_done(note)
    aborted = engine.submit(PROMPT, LONG, request_id="aborted")
    aborted.when_done(note)
    aborted.abort()
    for _ in range(2):
        assert all_told.acquire(timeout=30)

    def broken(self: ModelRunner, sequences: object) -> None:
        raise RuntimeError("out of luck")

    with monkeypatch.context() as patch:
        patch.setattr(ModelRunner, "forward", broken)
        failed = engine.submit(PROMPT, SHORT, request_id="failed")
        failed.when_done(note)
        assert all_told.acquire(timeout=30)
    assert told["finished"] == "length"
    assert told["aborted"] == "abort"
    assert told["failed"].startswith("RequestFailedError")
    error = failed.exception()
    assert isinstance(error, RequestFailedError)
    assert error.request_id == "failed"
    assert isinstance(error.__cause__, RuntimeError)


def test_a_callback_that_takes_long_holds_up_no_request(make_engine: MakeEngine) -> None:
    engine = make_engine()
    goes_on = threading.Event()
    slow = engine.submit(PROMPT, SHORT)
    slow.when_done(lambda _: goes_on.wait(timeout=60))
    slow.result(timeout=30)
    assert len(engine.submit(PROMPT, SHORT).result(timeout=30).token_ids) == 4
    assert engine.stats().running == 0
    goes_on.set()
