"""Requests are submitted so many at a time or at their times; a failure stops everything."""

from __future__ import annotations

import threading
import time

import pytest

from radixcache.replay.arrivals import by_timestamp, closed_loop


class Handle:
    def __init__(self) -> None:
        self.aborted = threading.Event()

    def result(self) -> None:  # the arrivals never look at a result themselves
        raise AssertionError

    def abort(self) -> None:
        self.aborted.set()


class Log:
    """Starts and finishes requests, keeping count."""

    def __init__(
        self, seconds: float = 0.002, fails_at: int | None = None, refuses: int | None = None
    ) -> None:
        self.seconds = seconds
        self.fails_at = fails_at
        self.refuses = refuses
        self.started: list[tuple[int, float]] = []
        self.finished: list[int] = []
        self.handles: list[Handle] = []
        self.in_flight = 0
        self.most = 0
        self.lock = threading.Lock()

    def start(self, request: int) -> Handle | None:
        with self.lock:
            self.started.append((request, time.perf_counter()))
            if request == self.refuses:
                return None
            self.in_flight += 1
            self.most = max(self.most, self.in_flight)
            self.handles.append(Handle())
            return self.handles[-1]

    def finish(self, request: int, handle: Handle) -> None:
        if request == self.fails_at:
            raise RuntimeError(f"request {request} broke the engine")
        handle.aborted.wait(self.seconds)
        with self.lock:
            self.in_flight -= 1
            self.finished.append(request)


@pytest.mark.parametrize("concurrency", [1, 3])
def test_closed_loop_keeps_that_many_in_flight_and_submits_in_order(concurrency: int) -> None:
    log = Log(seconds=0.01)
    closed_loop(range(12), log.start, log.finish, concurrency=concurrency)  # type: ignore[arg-type]
    assert [request for request, _ in log.started] == list(range(12))
    assert sorted(log.finished) == list(range(12))
    assert log.most == concurrency


def test_closed_loop_goes_on_after_a_refused_request() -> None:
    log = Log(refuses=1)
    closed_loop(range(4), log.start, log.finish, concurrency=1)  # type: ignore[arg-type]
    assert log.finished == [0, 2, 3]


def test_closed_loop_with_nothing_to_do() -> None:
    closed_loop([], Log().start, Log().finish, concurrency=2)  # type: ignore[arg-type]


def test_failure_reaches_the_caller_and_aborts_what_is_in_flight() -> None:
    log = Log(seconds=30, fails_at=2)
    begin = time.perf_counter()
    with pytest.raises(RuntimeError, match="request 2 broke"):
        closed_loop(range(100), log.start, log.finish, concurrency=3)  # type: ignore[arg-type]
    assert time.perf_counter() - begin < 5
    assert [request for request, _ in log.started] == [0, 1, 2]
    assert log.handles[0].aborted.is_set()
    assert log.handles[1].aborted.is_set()


def test_interrupt_in_the_caller_aborts_what_is_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(seconds=30)

    def interrupted(self: threading.Thread, timeout: float | None = None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        closed_loop(range(100), log.start, log.finish, concurrency=2)  # type: ignore[arg-type]
    assert log.handles
    assert all(handle.aborted.is_set() for handle in log.handles)


def test_timestamps_are_kept_relative_to_the_first() -> None:
    log = Log()
    begin = time.perf_counter()
    by_timestamp([(100.0, 0), (100.15, 1), (100.3, 2)], log.start, log.finish)  # type: ignore[arg-type]
    times = [moment - begin for _, moment in log.started]
    assert times[0] < 0.1
    assert times[1] >= 0.15
    assert times[2] >= 0.3
    assert log.finished == [0, 1, 2]


def test_timestamps_do_not_wait_for_earlier_requests() -> None:
    log = Log(seconds=0.2)
    by_timestamp([(0.0, 0), (0.01, 1), (0.02, 2)], log.start, log.finish)  # type: ignore[arg-type]
    assert log.most == 3


def test_speed_compresses_time() -> None:
    log = Log()
    begin = time.perf_counter()
    by_timestamp([(0.0, 0), (1000.0, 1)], log.start, log.finish, speed=10_000)  # type: ignore[arg-type]
    assert 0.1 <= time.perf_counter() - begin < 5


def test_failure_by_timestamp_does_not_wait_for_the_rest() -> None:
    log = Log(fails_at=0)
    begin = time.perf_counter()
    with pytest.raises(RuntimeError, match="request 0 broke"):
        by_timestamp([(0.0, 0), (3600.0, 1)], log.start, log.finish)  # type: ignore[arg-type]
    assert time.perf_counter() - begin < 5
