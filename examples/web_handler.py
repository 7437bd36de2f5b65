"""A web service with one endpoint to chat, on the engine's async interface.

    pip install 'radixcache[engine,server]'
    python examples/web_handler.py --port 8000
    curl -N localhost:8000/chat -d '{"session_id": "ada", "message": "Why is the sky blue?"}'

The answer comes as server-sent events: `{"text": ...}` for each piece, then an event named `done`
with what the turn cost. A client that leaves ends its request; what it was told stays part of the
conversation. Sessions live in memory, and whoever knows a session's id can continue it: put your own
authentication in front.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from radixcache import ChatSession, Engine, PromptTooLongError, RadixCacheError, SamplingParams

MAX_BODY_BYTES = 64 * 1024
MAX_SESSION_ID = 128


def create_app(
    engine: Engine,
    *,
    system: str = "You are a helpful assistant.",
    max_tokens: int = 256,
    max_sessions: int = 1000,
) -> Starlette:
    """The application: `POST /chat` and `GET /stats`.

    Args:
        engine: stays the caller's to close.
        system: system prompt of every session; its KV is computed once for all of them.
        max_tokens: the most new tokens of an answer.
        max_sessions: beyond this many the one unused for longest is forgotten.
    """
    params = SamplingParams(max_tokens=max_tokens)
    sessions = Sessions(lambda: engine.chat(system, params=params), max_sessions)

    async def chat(request: Request) -> ChatAnswer:
        session_id, message = await _read_turn(request)
        return ChatAnswer(sessions, session_id, message)

    async def stats(_: Request) -> JSONResponse:
        # In a thread: the engine answers between two steps, and the event loop is not to wait for that.
        now = await asyncio.to_thread(engine.stats)
        return JSONResponse(
            {
                "sessions": len(sessions),
                "running": now.running,
                "waiting": now.waiting,
                "requests": now.cache.requests,
                "prompt_tokens": now.cache.prompt_tokens,
                "cached_tokens": now.cache.cached_tokens,
                "hit_rate": now.cache.hit_rate,
                "missed_tokens": now.cache.missed_tokens,
            }
        )

    return Starlette(
        routes=[Route("/chat", chat, methods=["POST"]), Route("/stats", stats)],
        exception_handlers={HTTPException: _error},
    )


@dataclass
class _Session:
    chat: ChatSession
    turns: int = 0  # answering or waiting to
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Sessions:
    """Conversations by id, a bounded number of them. Used by the event loop's thread alone."""

    def __init__(self, new_chat: Callable[[], ChatSession], limit: int) -> None:
        self._new_chat = new_chat
        self._limit = limit
        self._sessions: OrderedDict[str, _Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    @asynccontextmanager
    async def turn(self, session_id: str) -> AsyncIterator[ChatSession]:
        """The session's conversation, for one turn at a time.

        Raises:
            HTTPException: 503 if there is no room for a new session.
        """
        session = self._open(session_id)
        session.turns += 1
        try:
            async with session.lock:
                yield session.chat
        finally:
            session.turns -= 1

    def _open(self, session_id: str) -> _Session:
        if session_id not in self._sessions:
            if len(self._sessions) >= self._limit:
                idle = next((name for name, session in self._sessions.items() if not session.turns), None)
                if idle is None:
                    raise HTTPException(503, f"all {self._limit} sessions are busy")
                del self._sessions[idle]
            self._sessions[session_id] = _Session(self._new_chat())
        self._sessions.move_to_end(session_id)
        return self._sessions[session_id]


class ChatAnswer:
    """A response that streams one answer and watches for the client leaving meanwhile."""

    def __init__(self, sessions: Sessions, session_id: str, message: str) -> None:
        self._sessions = sessions
        self._session_id = session_id
        self._message = message

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = asyncio.create_task(self._answer(scope, receive, send))
        gone = asyncio.create_task(_client_left(receive))
        try:
            await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            answer.cancel()
            gone.cancel()
            await asyncio.gather(answer, gone, return_exceptions=True)
        if not answer.cancelled():
            answer.result()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._sessions.turn(self._session_id) as chat:
            try:
                # Submits at once, before the headers go out: a refusal gets a status of its own.
                answer = chat.astream(self._message)
            except PromptTooLongError as error:
                return await _refusal(400, str(error))(scope, receive, send)
            except RadixCacheError as error:
                return await _refusal(503, str(error))(scope, receive, send)
            async with aclosing(answer) as pieces:
                await send(_HEAD)
                async for piece in pieces:
                    await send(_event({"text": piece}))
            assert chat.last_usage is not None
            await send(_event(asdict(chat.last_usage), name="done"))
            await send({"type": "http.response.body", "body": b""})
        return None


_HEAD = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")],
}


def _event(data: Mapping[str, Any], name: str | None = None) -> dict[str, Any]:
    head = "" if name is None else f"event: {name}\n"
    return {
        "type": "http.response.body",
        "body": f"{head}data: {json.dumps(data)}\n\n".encode(),
        "more_body": True,
    }


async def _client_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _read_turn(request: Request) -> tuple[str, str]:
    """Session id and message of a request's body.

    Raises:
        HTTPException: 400 or 413, saying what is wrong.
    """
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > MAX_BODY_BYTES:
                raise HTTPException(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
    except ClientDisconnect:
        raise HTTPException(400, "the client left before its message was complete") from None
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body is not JSON") from None
    if not isinstance(fields, dict):
        raise HTTPException(400, "the body is not a JSON object")
    unknown = sorted(fields.keys() - {"session_id", "message"})
    if unknown:
        raise HTTPException(400, f"unknown field {unknown[0]!r}; known are 'session_id' and 'message'")
    session_id, message = (_text(fields, name) for name in ("session_id", "message"))
    if len(session_id) > MAX_SESSION_ID:
        raise HTTPException(400, f"'session_id' has {len(session_id)} characters, at most {MAX_SESSION_ID}")
    return session_id, message


def _text(fields: dict[str, object], name: str) -> str:
    if name not in fields:
        raise HTTPException(400, f"{name!r} is missing")
    value = fields[name]
    if not isinstance(value, str) or not value.strip():
        raise HTTPException(400, f"{name!r} must be a string that is not blank")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise HTTPException(400, f"{name!r} holds half of a surrogate pair") from None
    return value


async def _error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _refusal(error.status_code, error.detail)


def _refusal(status: int, reason: str) -> JSONResponse:
    return JSONResponse({"error": reason}, status)


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="Chat over HTTP, every turn reusing the ones before.")
    parser.add_argument("--model", default="smollm2-135m", help="a name, a folder or a GGUF file")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    try:
        engine = Engine.from_pretrained(args.model)
    except RadixCacheError as error:
        sys.exit(f"error: {error}")
    with engine:
        uvicorn.run(create_app(engine), host=args.host, port=args.port)


if __name__ == "__main__":
    main()
