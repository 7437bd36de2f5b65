"""Iterators over what a request generates; some end the request when they are closed or dropped."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol, TypeVar

from radixcache.engine.result import Delta, GenerationResult

T = TypeVar("T")

OnEnd = Callable[[GenerationResult], None]
Pick = Callable[[Delta], T | None]


class Source(Protocol):
    """What an iterator needs of the request that it reads."""

    def read(self, position: int) -> list[Delta]:
        """Wait for the deltas from `position` on: at least one, or none after the last."""

    async def aread(self, position: int) -> list[Delta]:
        """`read` for an event loop."""

    def abort(self) -> None:
        """End the request early."""

    def abandon(self, when_done: Callable[[Any], None] | None = None) -> None:
        """Abort from a finalizer, without waiting for a lock."""

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the end; what the request failed with."""

    def result(self, timeout: float | None = None) -> GenerationResult:
        """Wait for the end; what was generated."""

    def when_done(self, call: Callable[[Any], None]) -> None:
        """Call with the source once the request has ended."""


def every_delta(delta: Delta) -> Delta:
    """Picks all deltas."""
    return delta


def first_text(delta: Delta) -> str | None:
    """Picks the text of the first completion."""
    return delta.text or None if delta.index == 0 else None


class Reader(Iterator[T]):
    """What is picked of the deltas of a request, from the first one on."""

    def __init__(self, source: Source, pick: Pick[T]) -> None:
        self._source = source
        self._pick = pick
        self._ready: deque[T] = deque()
        self._position = 0

    def __next__(self) -> T:
        while not self._ready:
            self._take(self._source.read(self._position))
        return self._ready.popleft()

    def _take(self, deltas: list[Delta]) -> None:
        if not deltas:
            raise StopIteration
        self._position += len(deltas)
        self._ready.extend(item for item in map(self._pick, deltas) if item is not None)


class AsyncReader(AsyncIterator[T]):
    """`Reader` for an event loop."""

    def __init__(self, source: Source, pick: Pick[T]) -> None:
        self._source = source
        self._pick = pick
        self._ready: deque[T] = deque()
        self._position = 0

    async def __anext__(self) -> T:
        while not self._ready:
            deltas = await self._source.aread(self._position)
            if not deltas:
                raise StopAsyncIteration
            self._position += len(deltas)
            self._ready.extend(item for item in map(self._pick, deltas) if item is not None)
        return self._ready.popleft()


class ClosingReader(Reader[T]):
    """A `Reader` that owns its request.

    Closing it (`close`, `contextlib.closing`), or dropping it, aborts the request, whether or not anything
    was read. So does an exception while waiting, Ctrl-C for one.
    """

    def __init__(self, source: Source, pick: Pick[T], on_end: OnEnd | None = None) -> None:
        """Iterate over what a request generates.

        Args:
            source: the request, which belongs to this iterator from now on.
            pick: what of each delta to give; None skips it.
            on_end: called once with the result when the stream has been read or closed, not if the request
                fails. Called on another thread if the stream is dropped before its end.
        """
        super().__init__(source, pick)
        self._on_end = _Once(on_end)
        self._closed = False

    def __next__(self) -> T:
        if self._closed:
            raise StopIteration
        try:
            return super().__next__()
        except BaseException:  # StopIteration among them
            self.close()
            raise

    def close(self) -> None:
        """Abort the request unless it has ended, and wait for its end. Harmless when closed already."""
        if not self._closed:
            self._closed = True
            self._source.abort()
            if self._on_end.wanted and self._source.exception() is None:
                self._on_end(self._source)

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self._source.abandon(self._on_end if self._on_end.wanted else None)


class AsyncClosingReader(AsyncReader[T]):
    """`ClosingReader` for an event loop, closed by `aclose` (`contextlib.aclosing`)."""

    def __init__(self, source: Source, pick: Pick[T], on_end: OnEnd | None = None) -> None:
        """Iterate over what a request generates; see `ClosingReader`.

        `aclose` does not wait for the end of the request, so `on_end` may be called after it, on another
        thread.
        """
        super().__init__(source, pick)
        self._on_end = _Once(on_end)
        self._closed = False

    async def __anext__(self) -> T:
        if self._closed:
            raise StopAsyncIteration
        try:
            return await super().__anext__()
        except BaseException:  # StopAsyncIteration and CancelledError among them
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Abort the request unless it has ended. Harmless when closed already."""
        if not self._closed:
            self._closed = True
            self._source.abort()
            if self._on_end.wanted:
                # Not awaited: a task that is cancelled here may have its later awaits cancelled, too.
                self._source.when_done(self._on_end)

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self._source.abandon(self._on_end if self._on_end.wanted else None)


class TextIterator(ClosingReader[str]):
    """Pieces of text of the first completion as they are generated; see `ClosingReader`."""

    def __init__(self, source: Source, on_end: OnEnd | None = None) -> None:
        super().__init__(source, first_text, on_end)


class AsyncTextIterator(AsyncClosingReader[str]):
    """`TextIterator` for an event loop; see `AsyncClosingReader`."""

    def __init__(self, source: Source, on_end: OnEnd | None = None) -> None:
        super().__init__(source, first_text, on_end)


class DeltaIterator(ClosingReader[Delta]):
    """Deltas of all completions as they are generated; see `ClosingReader`."""

    def __init__(self, source: Source) -> None:
        super().__init__(source, every_delta)


class AsyncDeltaIterator(AsyncClosingReader[Delta]):
    """`DeltaIterator` for an event loop; see `AsyncClosingReader`."""

    def __init__(self, source: Source) -> None:
        super().__init__(source, every_delta)


class _Once:
    """Calls a function with the result of a request that did not fail, the first time it is called."""

    def __init__(self, call: OnEnd | None) -> None:
        self._calls = [] if call is None else [call]

    @property
    def wanted(self) -> bool:
        return bool(self._calls)

    def __call__(self, source: Source) -> None:
        if source.exception() is None and self._calls:
            self._calls.pop()(source.result())
