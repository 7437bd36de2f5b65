"""Requests whose time runs out."""

from __future__ import annotations

import heapq
from collections.abc import Container

from radixcache.engine.handle import RequestHandle


class Deadlines:
    """Handles by the time at which their requests end."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, RequestHandle]] = []
        self._serial = 0

    @property
    def next(self) -> float | None:
        """The earliest time, perhaps of a request that has ended; None without any."""
        return self._heap[0][0] if self._heap else None

    def add(self, deadline: float, handle: RequestHandle, live: Container[RequestHandle]) -> None:
        """A request ends at `deadline`, if it is still among the `live` ones."""
        self._serial += 1
        heapq.heappush(self._heap, (deadline, self._serial, handle))
        if self._serial % 1024 == 0:  # most requests end long before
            self._heap = [entry for entry in self._heap if entry[2] in live]
            heapq.heapify(self._heap)

    def due(self, now: float) -> list[RequestHandle]:
        """Take out the handles whose time has come."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            found.append(heapq.heappop(self._heap)[2])
        return found

    def clear(self) -> None:
        """Nothing runs out any more."""
        self._heap.clear()
