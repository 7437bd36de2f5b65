"""The caller's end of a request: iterate it, wait for it, or abort it, from any thread or loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from functools import partial
from threading import Condition, Lock
from types import TracebackType
from typing import Protocol

from radixcache.engine.callbacks import call_safely
from radixcache.engine.result import Delta, DeltaFields, GenerationResult, RequestUsage
from radixcache.engine.streams import (
    AsyncDeltaIterator,
    AsyncReader,
    DeltaIterator,
    Reader,
    first_text,
)
from radixcache.errors import RadixCacheError, RequestFailedError, describe


class Owner(Protocol):
    """What a handle asks of the engine that works on its request."""

    def abort(self, handle: RequestHandle) -> None:
        """End the request early."""

    def abandon(
        self, handle: RequestHandle, when_done: Callable[[RequestHandle], None] | None = None
    ) -> None:
        """`abort` that takes no lock, for finalizers; `when_done` is called once it has ended."""

    def left_queue(self) -> None:
        """The request waits no longer: it runs, or has ended. Called more than once."""

    def run_callback(self, call: Callable[[], None]) -> None:
        """Call a function later, on a thread where it may take its time."""

    def check_process(self) -> None:
        """Raise in a forked child process, where no request goes on."""

    def check_waiting(self) -> None:
        """Raise if whoever waits here for a request would wait for ever."""


class RequestHandle:
    """A running request.

    Iterating gives the pieces of text of the first completion as they come, `events` what is known of all
    completions; `result` waits for the end. They may be used together and from any thread. `async for`,
    `aevents` and `await handle.wait()` do the same in an event loop.
    """

    def __init__(self, request_id: str, owner: Owner) -> None:
        self.request_id = request_id
        self._aborting = False
        # Let go at the end, so that a handle that is kept does not keep its engine.
        self._owner: Owner | None = owner
        self._lock = Lock()
        self._changed = Condition(self._lock)
        self._num_blocked = 0  # threads that wait for a change
        self._deltas: list[DeltaFields] = []
        self._usage: RequestUsage | None = None
        self._num_generated = 0
        self._result: GenerationResult | None = None
        self._error: BaseException | None = None
        self._trace: TracebackType | None = None
        self._wakers: list[Callable[[], None]] = []  # of event loops, called at every change
        self._callbacks: list[Callable[[RequestHandle], None]] = []

    @property
    def done(self) -> bool:
        """The request has ended: finished, aborted or failed."""
        return self._result is not None or self._error is not None

    @property
    def aborting(self) -> bool:
        """Its end was asked for: it is over already, or within a step."""
        return self._aborting

    @property
    def usage(self) -> RequestUsage | None:
        """Prompt, cached and generated tokens so far, and why the others missed; None before it has begun."""
        usage = self._usage
        if usage is None:
            return None
        return replace(usage, completion_tokens=self._num_generated, misses=dict(usage.misses))

    def abort(self) -> None:
        """End the request early; `result` then holds what was generated. Harmless when done."""
        self._aborting = True
        owner = self._owner
        if owner is not None:
            owner.abort(self)

    def result(self, timeout: float | None = None) -> GenerationResult:
        """Wait for the end.

        Args:
            timeout: seconds to wait; None waits as long as it takes.

        Raises:
            TimeoutError: not done in time; the request goes on.
            RequestFailedError: the request failed; another error of this package where one says why.
            EngineDeadError: the engine stopped.
        """
        self._wait_until_done(timeout)
        return self._outcome()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the end as `result` does, and return what the request failed with, None if it did not.

        Raises:
            TimeoutError: not done in time; the request goes on.
        """
        self._wait_until_done(timeout)
        return self._error

    def when_done(self, call: Callable[[RequestHandle], None]) -> None:
        """Call with this handle once the request has ended: finished, aborted or failed.

        `result` then returns or raises without waiting. The callback runs at once if the request has ended
        already, and else on a thread of the engine's for callbacks, one after another. It may call any
        method of the engine. What it raises is logged.

        Raises:
            ValueError: `call` cannot be called.
        """
        if not callable(call):
            raise ValueError(f"call must be callable, got {call!r}")
        owner = self._owner
        if owner is not None:
            owner.check_process()
            with self._changed:
                if not self.done:
                    self._callbacks.append(call)
                    return
        call_safely(partial(call, self))

    async def wait(self) -> GenerationResult:
        """`result` for an event loop."""
        while not self.done:
            await self._change()
        return self._outcome()

    def __iter__(self) -> Iterator[str]:
        return Reader(self, first_text)

    def __aiter__(self) -> AsyncIterator[str]:
        return AsyncReader(self, first_text)

    def events(self) -> DeltaIterator:
        """Deltas of every completion as they come, from the first one on.

        Closing or dropping the iterator before the end aborts the request.
        """
        return DeltaIterator(self)

    def aevents(self) -> AsyncDeltaIterator:
        """`events` for an event loop."""
        return AsyncDeltaIterator(self)

    def read(self, position: int) -> list[Delta]:
        """Wait for the deltas from `position` on: at least one, or none after the last.

        Raises:
            RequestFailedError, EngineDeadError: as `result`, once all deltas have been read.
        """
        if not self.done:
            self._check_waiting()
            self._wait_for(lambda: self.done or len(self._deltas) > position, None)
        return self._deltas_from(position)

    async def aread(self, position: int) -> list[Delta]:
        """`read` for an event loop."""
        while not self.done and len(self._deltas) <= position:
            await self._change(position)
        return self._deltas_from(position)

    def abandon(self, when_done: Callable[[RequestHandle], None] | None = None) -> None:
        """Abort from a finalizer, which may run anywhere and must not wait for a lock.

        Args:
            when_done: as for the method, but not called if the process is at its end.
        """
        self._aborting = True
        owner = self._owner
        if owner is not None:
            owner.abandon(self, when_done)
        elif when_done is not None:
            call_safely(partial(when_done, self))

    def _wait_until_done(self, timeout: float | None) -> None:
        if self.done:
            return
        self._check_waiting()
        if not self._wait_for(lambda: self.done, timeout):
            raise TimeoutError(f"request {self.request_id} is not done after {timeout} s")

    def _wait_for(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        with self._changed:
            self._num_blocked += 1
            try:
                return self._changed.wait_for(condition, timeout)
            finally:
                self._num_blocked -= 1

    def _deltas_from(self, position: int) -> list[Delta]:
        deltas = [Delta(*fields) for fields in self._deltas[position:]]
        if not deltas:
            self._outcome()
        return deltas

    async def _change(self, position: int | None = None) -> None:
        """Wait for the end, or for the delta at `position`."""
        self._check_waiting()
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(changed.set)

        with self._changed:
            self._wakers.append(wake)
        try:
            # Looked at after the waker is there, as `push` looks for wakers after the delta is.
            if not self.done and (position is None or len(self._deltas) <= position):
                await changed.wait()
        finally:
            with self._changed:
                self._wakers.remove(wake)

    def _check_waiting(self) -> None:
        owner = self._owner
        if owner is not None:
            owner.check_waiting()

    def _outcome(self) -> GenerationResult:
        if self._error is not None:
            # With its first traceback, or every waiter would add frames to it.
            raise self._error.with_traceback(self._trace)
        assert self._result is not None
        return self._result

    # The engine's side; called on its thread alone.

    def start(self, usage: RequestUsage) -> None:
        """The request runs; `usage` is what is known of its prompt. Called again where that changes."""
        owner = self._owner
        if owner is not None:
            self._usage = usage
            owner.left_queue()

    def push(self, fields: DeltaFields) -> None:
        """Hand over what was generated."""
        self._num_generated += len(fields[2])
        self._deltas.append(fields)
        # No lock while nobody waits: a thread is counted before it looks whether there is a delta to read.
        if self._num_blocked or self._wakers:
            with self._lock:
                wakers = self._notify()
            _wake(wakers)

    def finish(self, result: GenerationResult) -> None:
        """End the request with a result, unless it has ended."""
        self._end(result, None)

    def fail(self, error: BaseException) -> None:
        """End the request with an error, unless it has ended.

        Errors of this package are raised as they are, others as the cause of a `RequestFailedError`.
        """
        if isinstance(error, RadixCacheError):
            error.add_note(f"request {self.request_id}")
            failure: RadixCacheError = error
        else:
            failure = RequestFailedError(self.request_id, describe(error))
            failure.__cause__ = error
        self._end(None, failure)

    def _end(self, result: GenerationResult | None, error: BaseException | None) -> None:
        with self._changed:
            owner = self._owner
            if owner is None:
                return
            self._trace = None if error is None else error.__traceback__
            self._result, self._error, self._owner = result, error, None
            callbacks, self._callbacks = self._callbacks, []
            wakers = self._notify()
        _wake(wakers)
        owner.left_queue()
        for call in callbacks:
            call_safely(partial(owner.run_callback, partial(call, self)))

    def _notify(self) -> list[Callable[[], None]]:
        if self._num_blocked:
            self._changed.notify_all()
        return list(self._wakers)


def _wake(wakers: list[Callable[[], None]]) -> None:
    for wake in wakers:
        try:
            wake()
        except Exception:
            # A loop that was closed over its tasks has nobody left to wake.
            continue
