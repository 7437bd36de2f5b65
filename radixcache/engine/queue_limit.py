"""The bound on waiting requests."""

from __future__ import annotations

from threading import Lock

from radixcache.errors import EngineOverloadedError


class QueueLimit:
    """Counts requests that wait, and refuses more than may.

    Requests that the engine has room for at once do not count, though they wait until the next step: a burst
    on an idle engine is not refused.

    Attributes:
        places: requests that can start now; set by the engine's thread after it has admitted what it can.
    """

    def __init__(self, max_waiting: int | None, places: int) -> None:
        """Let `max_waiting` requests wait, or any number if None."""
        self.places = places
        self._max_waiting = max_waiting
        self._waiting = 0
        self._lock = Lock()

    def enter(self) -> None:
        """Count a request that waits from here on.

        Raises:
            EngineOverloadedError: as many wait as may.
        """
        with self._lock:
            if self._max_waiting is not None and self._waiting >= self._max_waiting + self.places:
                raise EngineOverloadedError(self._waiting, self._max_waiting)
            self._waiting += 1

    def leave(self) -> None:
        """A request waits no longer."""
        with self._lock:
            self._waiting -= 1
