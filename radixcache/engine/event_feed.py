"""Cache events on their way to a listener, apart from the steps that cause them."""

from __future__ import annotations

from functools import partial
from queue import SimpleQueue
from threading import Thread, current_thread

from radixcache.cache.events import CacheEvent, EventCallback
from radixcache.engine.callbacks import call_on_thread


class EventFeed:
    """Hands events to a listener in order, on a thread for that, so that no step waits for it.

    What the listener raises is logged. Events wait in memory for a listener that is slow.
    """

    def __init__(self, listener: EventCallback) -> None:
        """Make a feed to `listener`, which gets events from `start` on.

        Raises:
            ValueError: `listener` cannot be called.
        """
        if not callable(listener):
            raise ValueError(f"on_event must be callable, got {listener!r}")
        self._queue: SimpleQueue[CacheEvent | None] = SimpleQueue()
        self._thread = Thread(
            target=_run, args=(self._queue, listener), name="radixcache-events", daemon=True
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, event: CacheEvent) -> None:
        """Queue an event and return at once."""
        self._queue.put(event)

    def close(self) -> None:
        """No event comes after those that are queued; the thread ends with the last of them."""
        self._queue.put(None)

    def join(self, timeout: float) -> None:
        """Wait for the end, after `close`, for `timeout` seconds at most; not if called by the listener."""
        if current_thread() is not self._thread:
            self._thread.join(timeout)


def _run(queue: SimpleQueue[CacheEvent | None], listener: EventCallback) -> None:
    while (event := queue.get()) is not None:
        call_on_thread(partial(listener, event))
