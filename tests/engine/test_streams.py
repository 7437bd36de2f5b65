"""Streams end their request when they are closed, dropped or cancelled, whether or not anybody read them."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing, closing

import pytest

from radixcache import Engine, EngineConfig, SamplingParams
from radixcache.engine.runner import ModelRunner
from tests.engine.letters import FIRST, lettered

LONG = SamplingParams(max_tokens=1500, ignore_eos=True)
SHORT = SamplingParams(max_tokens=5, ignore_eos=True)
PROMPT = list(range(3, 50))
TEXT = "".join(chr(FIRST + token) for token in PROMPT)


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(lettered(), EngineConfig(cache_tokens=8192)) as engine:
        yield engine


def becomes_idle(engine: Engine) -> bool:
    """Whether everything ends long before it would by itself."""
    gc.collect()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        stats = engine.stats()
        if not stats.running and not stats.waiting:
            return stats.decode_tokens < 700
        time.sleep(0.005)
    return False


def closed_unread(engine: Engine) -> None:
    engine.stream(PROMPT, LONG).close()


def dropped_unread(engine: Engine) -> None:
    engine.stream(PROMPT, LONG)


def dropped_after_one_piece(engine: Engine) -> None:
    next(engine.stream(PROMPT, LONG))


def closed_twice(engine: Engine) -> None:
    with closing(engine.stream(PROMPT, LONG)) as pieces:
        next(pieces)
        pieces.close()
        assert list(pieces) == []


def closed_unread_in_a_loop(engine: Engine) -> None:
    async def run() -> None:
        await engine.astream(PROMPT, LONG).aclose()

    asyncio.run(run())


def dropped_unread_in_a_loop(engine: Engine) -> None:
    async def run() -> None:
        engine.astream(PROMPT, LONG)

    asyncio.run(run())


def dropped_outside_its_loop(engine: Engine) -> None:
    async def run() -> object:
        pieces = engine.astream(PROMPT, LONG)
        await anext(pieces)
        return pieces

    asyncio.run(run())


def cancelled_while_reading(engine: Engine) -> None:
    async def read() -> None:
        async with aclosing(engine.astream(PROMPT, LONG)) as pieces:
            async for _ in pieces:
                pass

    async def run() -> None:
        for delay in (0.0, 0.05):
            task = asyncio.create_task(read())
            await asyncio.sleep(delay)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())


LEAVING = [
    closed_unread,
    dropped_unread,
    dropped_after_one_piece,
    closed_twice,
    closed_unread_in_a_loop,
    dropped_unread_in_a_loop,
    dropped_outside_its_loop,
    cancelled_while_reading,
]


@pytest.mark.parametrize("leave", LEAVING)
def test_leaving_a_stream_ends_its_request(leave: Callable[[Engine], None], engine: Engine) -> None:
    leave(engine)
    assert becomes_idle(engine)


def test_a_stream_can_be_closed_while_another_thread_reads_it(engine: Engine) -> None:
    pieces = engine.stream(PROMPT, LONG)
    reader = threading.Thread(target=lambda: list(pieces))
    reader.start()
    pieces.close()
    reader.join(timeout=30)
    assert not reader.is_alive()
    assert becomes_idle(engine)


def test_a_stream_that_is_read_gives_what_generate_gives(engine: Engine) -> None:
    expected = engine.generate(PROMPT, SHORT)[0].text

    async def read() -> str:
        return "".join([piece async for piece in engine.astream(PROMPT, SHORT)])

    assert "".join(engine.stream(PROMPT, SHORT)) == expected
    assert asyncio.run(read()) == expected


def test_a_stream_raises_what_its_request_failed_with(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: ModelRunner, sequences: object) -> None:
        raise RuntimeError("out of luck")

    async def read() -> None:
        async for _ in engine.astream(PROMPT, SHORT):
            pass

    monkeypatch.setattr(ModelRunner, "forward", broken)
    with pytest.raises(RuntimeError, match="out of luck"):
        list(engine.stream(PROMPT, SHORT))
    with pytest.raises(RuntimeError, match="out of luck"):
        asyncio.run(read())


def test_a_turn_that_is_left_holds_what_was_said(engine: Engine) -> None:
    chat = engine.chat(params=LONG)
    with closing(chat.stream(TEXT)) as pieces:
        said = next(pieces)
    assert [message["role"] for message in chat.messages] == ["user", "assistant"]
    assert chat.messages[-1]["content"].startswith(said)
    assert chat.last_usage is not None
    assert chat.last_usage.finish_reason == "abort"
    assert becomes_idle(engine)


@pytest.mark.parametrize("closed", [True, False])
def test_a_turn_that_nobody_read_ends_and_is_remembered_once(closed: bool, engine: Engine) -> None:
    chat = engine.chat(params=LONG)
    pieces = chat.stream(TEXT)
    if closed:
        pieces.close()
    del pieces
    assert becomes_idle(engine)
    deadline = time.monotonic() + 30
    while len(chat.messages) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert len(chat.messages) == 2


def test_a_turn_in_a_loop_that_nobody_read_ends(engine: Engine) -> None:
    chat = engine.chat(params=LONG)

    async def run() -> None:
        await chat.astream(TEXT).aclose()

    asyncio.run(run())
    assert becomes_idle(engine)


def test_a_turn_that_fails_leaves_the_conversation_as_it_was(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: ModelRunner, sequences: object) -> None:
        raise RuntimeError("out of luck")

    chat = engine.chat(params=SHORT)
    monkeypatch.setattr(ModelRunner, "forward", broken)
    with pytest.raises(RuntimeError, match="out of luck"):
        list(chat.stream(TEXT))
    assert chat.messages == []
    assert chat.token_ids == ()
