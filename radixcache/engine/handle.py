"""The caller's end of a request: iterate it, wait for it, or abort it, from any thread or loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from threading import Condition

from radixcache.engine.result import GenerationResult


class RequestHandle:
    """A running request.

    Iterating gives the pieces of text of the first completion as they come; `result` waits
    for the end. Both may be used together and from any thread. `async for` and `await
    handle.wait()` do the same in an event loop.
    """

    def __init__(self, request_id: str, abort: Callable[[RequestHandle], None]) -> None:
        self.request_id = request_id
        self._abort = abort
        self._changed = Condition()
        self._pieces: list[str] = []
        self._result: GenerationResult | None = None
        self._error: BaseException | None = None
        self._listeners: list[Callable[[], None]] = []

    @property
    def done(self) -> bool:
        """The request has ended: finished, aborted or failed."""
        return self._result is not None or self._error is not None

    def abort(self) -> None:
        """End the request early; `result` then holds what was generated. Harmless when done."""
        if not self.done:
            self._abort(self)

    def result(self, timeout: float | None = None) -> GenerationResult:
        """Wait for the end.

        Args:
            timeout: seconds to wait; None waits as long as it takes.

        Raises:
            TimeoutError: not done in time; the request goes on.
            Exception: whatever made the engine fail this request.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self.done, timeout):
                raise TimeoutError(f"request {self.request_id} is not done after {timeout} s")
        return self._outcome()

    def when_done(self, call: Callable[[GenerationResult], None]) -> None:
        """Call with the result when there is one: at once, or later on the engine's thread.

        Not called if the request fails.
        """

        def tell() -> None:
            if self._result is not None:
                call(self._result)

        with self._changed:
            if not self.done:
                self._listeners.append(tell)
                return
        tell()

    async def wait(self) -> GenerationResult:
        """`result` for an event loop."""
        async for _ in self:
            pass
        return self._outcome()

    def __iter__(self) -> Iterator[str]:
        position = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self.done or len(self._pieces) > position)  # noqa: B023
                pieces, done = self._pieces[position:], self.done
            yield from pieces
            position += len(pieces)
            if done and position == len(self._pieces):
                self._outcome()
                return

    async def __aiter__(self) -> AsyncIterator[str]:
        loop, changed, position = asyncio.get_running_loop(), asyncio.Event(), 0

        def wake() -> None:
            # A loop that was closed over its tasks has nobody left to wake.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(changed.set)

        with self._changed:
            self._listeners.append(wake)
        try:
            while True:
                changed.clear()
                with self._changed:
                    pieces, done = self._pieces[position:], self.done
                for piece in pieces:
                    yield piece
                position += len(pieces)
                if done and position == len(self._pieces):
                    self._outcome()
                    return
                if not pieces:
                    await changed.wait()
        finally:
            with self._changed:
                self._listeners.remove(wake)

    def _outcome(self) -> GenerationResult:
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    # The engine's side; called on its thread alone.

    def push(self, piece: str) -> None:
        """Hand over a piece of text."""
        if piece:
            self._update(lambda: self._pieces.append(piece))

    def finish(self, result: GenerationResult) -> None:
        """End the request with a result."""
        self._update(lambda: setattr(self, "_result", result))

    def fail(self, error: BaseException) -> None:
        """End the request with an error."""
        self._update(lambda: setattr(self, "_error", error))

    def _update(self, change: Callable[[], None]) -> None:
        with self._changed:
            change()
            self._changed.notify_all()
            listeners = list(self._listeners)
        for listener in listeners:
            listener()
