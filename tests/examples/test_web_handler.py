"""examples/web_handler.py: streaming, sessions, bad input, and clients that leave."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from examples import web_handler as example
from radixcache import Engine

LONG = 3000


@pytest.fixture
def client(engine: Engine) -> Iterator[TestClient]:
    engine.reset_cache()
    with TestClient(example.create_app(engine, max_tokens=10, max_sessions=2)) as client:
        yield client


def say(client: TestClient, session: str, message: str) -> tuple[str, dict[str, Any]]:
    """An answer's text and what it cost."""
    response = client.post("/chat", json={"session_id": session, "message": message})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    *pieces, last = response.text.removesuffix("\n\n").split("\n\n")
    text = "".join(json.loads(piece.removeprefix("data: "))["text"] for piece in pieces)
    assert last.startswith("event: done\ndata: ")
    return text, json.loads(last.split("data: ")[1])


def test_turns_stream_and_reuse_what_came_before(client: TestClient) -> None:
    text, first = say(client, "ada", "Why?")
    assert len(text) == first["completion_tokens"] == 10
    assert first["cached_tokens"] == 0
    _, second = say(client, "ada", "And then?")
    assert second["cached_tokens"] == first["prompt_tokens"] + 9


def test_sessions_share_the_system_prompt_and_nothing_else(client: TestClient) -> None:
    say(client, "ada", "My name is Ada")
    _, other = say(client, "bob", "Who am I?")
    head = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    assert other["cached_tokens"] == len(head) - len("<|im_start|>" * 2 + "<|im_end|>") + 3


def test_the_session_unused_for_longest_is_forgotten(client: TestClient) -> None:
    _, first = say(client, "ada", "Why?")
    say(client, "bob", "Why?")
    say(client, "cyd", "Why?")
    assert client.get("/stats").json()["sessions"] == 2
    _, again = say(client, "ada", "Why?")
    assert again["prompt_tokens"] == first["prompt_tokens"]


def test_stats_count(client: TestClient) -> None:
    before = client.get("/stats").json()
    _, usage = say(client, "ada", "Why?")
    after = client.get("/stats").json()
    assert after["requests"] - before["requests"] == 1
    assert after["prompt_tokens"] - before["prompt_tokens"] == usage["prompt_tokens"]
    assert after["running"] == after["waiting"] == 0


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b"\xff", 400, "not JSON"),
        (b"[" * 60_000, 400, "not JSON"),
        (b"[]", 400, "not a JSON object"),
        (b'{"message": "hi"}', 400, "'session_id' is missing"),
        (b'{"session_id": "ada"}', 400, "'message' is missing"),
        (b'{"session_id": "ada", "message": 3}', 400, "'message' must be a string"),
        (b'{"session_id": " ", "message": "hi"}', 400, "'session_id' must be a string that is not blank"),
        (b'{"session_id": "ada", "message": "\\ud800"}', 400, "'message' holds half of a surrogate pair"),
        (b'{"session_id": "ada", "message": "hi", "n": 2}', 400, "unknown field 'n'"),
        (b'{"session_id": "%s", "message": "hi"}' % (b"a" * 129), 400, "129 characters"),
        (b'{"session_id": "ada", "message": "%s"}' % (b"x" * 5000), 400, "4096"),
        (b'{"message": "%s"}' % (b"x" * 70_000), 413, "larger than 65536 bytes"),
    ],
)
def test_bad_input_is_refused_with_its_reason(
    client: TestClient, body: bytes, status: int, reason: str
) -> None:
    response = client.post("/chat", content=body)
    assert response.status_code == status
    assert reason in response.json()["error"]
    say(client, "ada", "Still there?")


def test_other_methods_and_paths_are_refused(client: TestClient) -> None:
    assert client.get("/chat").status_code == 405
    assert client.get("/other").status_code == 404


def test_busy_sessions_are_neither_forgotten_nor_answered_twice_at_once() -> None:
    async def main() -> None:
        sessions = example.Sessions(SimpleNamespace, 1)  # type: ignore[arg-type]
        async with sessions.turn("ada") as chat:
            with pytest.raises(HTTPException, match="all 1 sessions are busy"):
                async with sessions.turn("bob"):
                    pass
            second = asyncio.create_task(_hold(sessions, "ada"))
            await asyncio.sleep(0)
            assert not second.done()
        assert await second is chat
        async with sessions.turn("bob") as other:
            assert other is not chat
        assert len(sessions) == 1

    asyncio.run(main())


async def _hold(sessions: example.Sessions, name: str) -> object:
    async with sessions.turn(name) as chat:
        return chat


@pytest.fixture
def port(engine: Engine) -> Iterator[int]:
    """A real server on the loopback interface whose answers are long."""
    app = example.create_app(engine, max_tokens=LONG)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        stack.callback(thread.join)
        stack.callback(setattr, server, "should_exit", True)
        yield listener.getsockname()[1]


def ask(port: int, session: str, message: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/chat", json.dumps({"session_id": session, "message": message}))
    return connection, connection.getresponse()


def wait_until_idle(engine: Engine) -> None:
    end = time.monotonic() + 20
    while (now := engine.stats()).running or now.waiting:
        assert time.monotonic() < end, "the request was not aborted"
        time.sleep(0.01)


def leave_after_first_piece(engine: Engine, port: int, message: str) -> tuple[int, int]:
    """Prompt tokens of the turn and tokens generated before the engine noticed."""
    before = engine.stats()
    connection, response = ask(port, "ada", message)
    assert json.loads(response.readline().removeprefix(b"data: "))["text"]
    response.close()
    connection.close()
    wait_until_idle(engine)
    after = engine.stats()
    assert after.cache.leases == 0
    prompt_tokens = after.cache.prompt_tokens - before.cache.prompt_tokens
    return prompt_tokens, after.decode_tokens - before.decode_tokens


def test_a_client_that_leaves_ends_its_request_and_can_come_back(engine: Engine, port: int) -> None:
    first, generated = leave_after_first_piece(engine, port, "Tell me everything")
    assert 1 <= generated < LONG
    second, _ = leave_after_first_piece(engine, port, "Go on")
    assert engine.model.tokenizer is not None
    turn = "<|im_end|>\n<|im_start|>user\nGo on<|im_end|>\n<|im_start|>assistant\n"
    assert second == first + generated + len(engine.model.tokenizer.encode(turn))


def test_a_client_that_leaves_before_the_first_token_ends_its_request(engine: Engine, port: int) -> None:
    before = engine.stats()
    body = json.dumps({"session_id": "bob", "message": "x" * 900}).encode()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        head = f"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        while engine.stats().cache.requests == before.cache.requests:
            time.sleep(0.001)
    wait_until_idle(engine)
    assert engine.stats().decode_tokens - before.decode_tokens < LONG
