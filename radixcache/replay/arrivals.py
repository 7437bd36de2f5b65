"""When requests are submitted: so many at a time, or at their recorded times.

`start(request)` submits and returns a handle, or None if the request was refused; `finish(request, handle)`
waits for its end. Should either raise, or the caller be interrupted, nothing more is started, what is in
flight is aborted, and the exception goes to the caller.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from queue import SimpleQueue
from typing import Generic, TypeVar

from radixcache.replay.protocols import HandleLike

__all__ = ["by_timestamp", "closed_loop"]

T = TypeVar("T")
Start = Callable[[T], HandleLike | None]
Finish = Callable[[T, HandleLike], None]

_POLL_S = 0.1
"""How long a wait lasts before a failure elsewhere is looked for, and Ctrl-C noticed."""


class _Flight(Generic[T]):
    """Requests in flight, and the first failure among the threads that wait for them."""

    def __init__(self, start: Start[T], finish: Finish[T]) -> None:
        self._start = start
        self._finish = finish
        self._handles: set[HandleLike] = set()
        self._lock = threading.Lock()
        self.failure: BaseException | None = None
        self.stopped = threading.Event()

    def start(self, request: T) -> HandleLike | None:
        handle = self._start(request)
        if handle is not None:
            with self._lock:
                self._handles.add(handle)
        return handle

    def finish(self, request: T, handle: HandleLike) -> None:
        self._finish(request, handle)
        with self._lock:
            self._handles.discard(handle)

    def guard(self, work: Callable[[], None]) -> Callable[[], None]:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:
                with self._lock:
                    self.failure = self.failure or error
                self.stopped.set()

        return guarded

    def join(self, threads: Iterable[threading.Thread]) -> None:
        for thread in threads:
            while thread.is_alive() and not self.stopped.is_set():
                thread.join(_POLL_S)
        if self.failure is not None:
            raise self.failure

    def abort(self) -> None:
        self.stopped.set()
        with self._lock:
            handles = list(self._handles)
        for handle in handles:
            handle.abort()


def closed_loop(requests: Iterable[T], start: Start[T], finish: Finish[T], *, concurrency: int) -> None:
    """Keep `concurrency` requests in flight: the next is submitted, in order, as soon as one ends."""
    flight = _Flight(start, finish)
    upcoming = iter(requests)
    turn = threading.Lock()

    def work() -> None:
        while True:
            with turn:
                request = None if flight.stopped.is_set() else next(upcoming, None)
                if request is None:
                    return
                handle = flight.start(request)
            if handle is not None:
                flight.finish(request, handle)

    _run(flight, [flight.guard(work)] * concurrency, lambda: None)


def by_timestamp(
    requests: Sequence[tuple[float, T]], start: Start[T], finish: Finish[T], *, speed: float = 1.0
) -> None:
    """Submit every request at its time (seconds), relative to the first and divided by `speed`.

    `requests` is in order of time.
    """
    flight = _Flight(start, finish)
    in_flight: SimpleQueue[tuple[T, HandleLike] | None] = SimpleQueue()

    def collect() -> None:
        while (entry := in_flight.get()) is not None:
            flight.finish(*entry)

    def submit() -> None:
        begin = time.perf_counter()
        for timestamp, request in requests:
            due = begin + (timestamp - requests[0][0]) / speed
            while (wait := due - time.perf_counter()) > 0 and not flight.stopped.is_set():
                time.sleep(min(wait, _POLL_S))
            if flight.stopped.is_set():
                break
            handle = flight.start(request)
            if handle is not None:
                in_flight.put((request, handle))
        in_flight.put(None)

    _run(flight, [flight.guard(collect)], submit)


def _run(flight: _Flight[T], work: Sequence[Callable[[], None]], meanwhile: Callable[[], None]) -> None:
    # Daemons: an interrupted replay must not keep the process waiting for a long generation.
    threads = [threading.Thread(target=w, daemon=True, name=f"replay-{i}") for i, w in enumerate(work)]
    try:
        for thread in threads:
            thread.start()
        meanwhile()
        flight.join(threads)
    except BaseException:
        flight.abort()
        raise
