"""Streams of text that end their request when they are closed or dropped, read or not."""

from __future__ import annotations

from collections.abc import Callable

from radixcache.engine.handle import AsyncPieces, Pieces, RequestHandle
from radixcache.engine.result import GenerationResult

OnEnd = Callable[[GenerationResult], None]


class TextIterator(Pieces):
    """Pieces of text as they are generated.

    Closing it (`close`, `contextlib.closing`), or dropping it, aborts the request, whether or not anything
    was read. So does an exception while waiting for a piece, Ctrl-C for one.
    """

    def __init__(self, handle: RequestHandle, on_end: OnEnd | None = None) -> None:
        """Iterate over what `handle` generates.

        Args:
            handle: the request, which is this iterator's from now on.
            on_end: called once with the result when the stream has been read or closed, not if the request
                fails. Called on another thread if the stream is dropped before its end.
        """
        super().__init__(handle)
        self._on_end = _Once(on_end)
        self._closed = False

    def __next__(self) -> str:
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
            self._handle.abort()
            if self._on_end.wanted and self._handle.exception() is None:
                self._on_end(self._handle)

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self._handle.abandon(self._on_end if self._on_end.wanted else None)


class AsyncTextIterator(AsyncPieces):
    """`TextIterator` for an event loop, closed by `aclose` (`contextlib.aclosing`)."""

    def __init__(self, handle: RequestHandle, on_end: OnEnd | None = None) -> None:
        """Iterate over what `handle` generates; see `TextIterator`.

        `aclose` does not wait for the end of the request, so `on_end` may be called after it, on another
        thread.
        """
        super().__init__(handle)
        self._on_end = _Once(on_end)
        self._closed = False

    async def __anext__(self) -> str:
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
            self._handle.abort()
            if self._on_end.wanted:
                # Not awaited: whoever cancels this may cancel every later await, too.
                self._handle.when_done(self._on_end)

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self._handle.abandon(self._on_end if self._on_end.wanted else None)


class _Once:
    """Calls a function with the result of a request that did not fail, the first time it is called."""

    def __init__(self, call: OnEnd | None) -> None:
        self._calls = [] if call is None else [call]

    @property
    def wanted(self) -> bool:
        return bool(self._calls)

    def __call__(self, handle: RequestHandle) -> None:
        if handle.exception() is None and self._calls:
            self._calls.pop()(handle.result())
