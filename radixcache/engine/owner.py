"""What the handle of a request asks of the engine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from radixcache.engine.handle import RequestHandle
from radixcache.engine.loop import StepLoop
from radixcache.engine.queue_limit import QueueLimit
from radixcache.engine.thread import EngineThread
from radixcache.errors import EngineClosedError, EngineDeadError, EngineForkedError


class RequestOwner:
    """Links a request's handle to the thread that works on it, and keeps the engine alive until it has ended.

    Without it the engine of a caller who holds nothing but the handle would be collected, and stop.
    """

    def __init__(self, engine: object, thread: EngineThread, loop: StepLoop, limit: QueueLimit) -> None:
        """Count the request among those that wait.

        Raises:
            EngineOverloadedError: as many wait as may.
        """
        limit.enter()
        self._limit: QueueLimit | None = limit
        self._engine = engine
        self._thread = thread
        self._loop = loop

    def abort(self, handle: RequestHandle) -> None:
        """End the request early, if the engine still works on it."""
        with suppress(EngineClosedError, EngineDeadError, EngineForkedError):
            self._thread.tell(lambda: self._loop.abort(handle), lambda error: self._loop.fail(handle, error))

    def abandon(
        self, handle: RequestHandle, when_done: Callable[[RequestHandle], None] | None = None
    ) -> None:
        """`abort` that takes no lock, for finalizers; `when_done` is called once it has ended."""

        def abandon() -> None:
            if when_done is not None:
                handle.when_done(when_done)
            self._loop.abort(handle)

        self._thread.tell_unlocked(abandon)

    def left_queue(self) -> None:
        """The request waits no longer: it runs, or has ended. Called more than once."""
        limit, self._limit = self._limit, None
        if limit is not None:
            limit.leave()

    def run_callback(self, call: Callable[[], None]) -> None:
        """Call a function later, on the thread for callbacks."""
        self._thread.callbacks.submit(call)

    def check_process(self) -> None:
        """Raise EngineForkedError in a forked child process."""
        self._thread.check_process()

    def check_waiting(self) -> None:
        """Raise RadixCacheError where waiting for a request would never end."""
        self._thread.check_waiting()
