"""Runs callers' callbacks on a separate thread, where they delay and break nothing else."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from threading import Lock, Thread

_logger = logging.getLogger("radixcache.engine")


class CallbackRunner:
    """Calls functions one after another on a daemon thread that lives only while there are any.

    A callback may take long, raise (which is logged), or call any method of the engine. Others wait for
    it, but no request does.
    """

    def __init__(self) -> None:
        self._calls: deque[Callable[[], None]] = deque()
        self._lock = Lock()
        self._thread: Thread | None = None

    def submit(self, call: Callable[[], None]) -> None:
        """Queue a call and return at once."""
        with self._lock:
            self._calls.append(call)
            if self._thread is not None:
                return
            self._thread = Thread(target=self._run, name="radixcache-callbacks", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._thread = None  # the next call, or `finish`, tries again
            raise

    def finish(self, timeout: float) -> None:
        """Wait until all calls have been made, for `timeout` seconds at most."""
        thread = self._thread
        if thread is None:
            self._run()
        else:
            thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._calls:
                    self._thread = None
                    return
                call = self._calls.popleft()
            call_on_thread(call)


def call_safely(call: Callable[[], None]) -> None:
    """Call a caller's function; an exception that it raises is logged."""
    try:
        call()
    except Exception:
        _logger.exception("a callback raised")


def call_on_thread(call: Callable[[], None]) -> None:
    """`call_safely` on a thread for callbacks, which SystemExit must not end either."""
    try:
        call()
    except BaseException:
        _logger.exception("a callback raised")
