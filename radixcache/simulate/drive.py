"""Requests through a real `PrefixCache`: one after another, or at their recorded times.

By time a request starts when it arrives, or when the ones before it have found room and there is room for it,
too. It computes what is not cached at the prefill speed and publishes it then, answers at the decode speed,
and gives its blocks back at the end. Requests do not slow each other down.
"""

from __future__ import annotations

import heapq
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from radixcache.cache.lease import Lease
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.errors import OutOfBlocksError
from radixcache.tokens import TOKEN_BYTES
from radixcache.workload.settings import SimulateSettings
from radixcache.workload.views import Request

__all__ = ["Outcome", "drive"]

_TICK = 256

Measure = Callable[[Lease, Request], int]


@dataclass(slots=True)
class Outcome:
    """What became of every request.

    Attributes:
        cached: tokens reused, a request.
        too_large: requests whose prompts the cache could not hold.
        waited: how many had to wait for others to end.
    """

    cached: array[int]
    too_large: list[int] = field(default_factory=list)
    waited: int = 0


def drive(
    cache: PrefixCache,
    requests: Sequence[Request],
    settings: SimulateSettings,
    measure: Measure,
    *,
    recompute_last: bool,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Outcome:
    """Serve requests in their order, sorted by time where arrivals are by timestamp.

    Args:
        cache: a fresh one.
        requests: what is asked of it.
        settings: arrivals and speeds.
        measure: tokens that a request reused, told by its fresh lease.
        recompute_last: as for `PrefixCache.acquire`.
        on_progress: told now and then how many are done.
    """
    outcome = Outcome(array("q", bytes(8 * len(requests))))
    if settings.arrivals == "timestamps":
        _Timed(cache, settings, measure, recompute_last, outcome).run(requests, on_progress)
        return outcome
    for index, request in enumerate(requests):
        if not index % _TICK:
            on_progress(index)
        if not request.prompt:
            continue
        try:
            lease = cache.acquire(request.prompt, request.namespace, recompute_last=recompute_last)
        except OutOfBlocksError:
            outcome.too_large.append(index)
            continue
        outcome.cached[index] = measure(lease, request)
        lease.commit(lease.num_tokens)
        if request.output and _extend(lease, request):
            lease.commit(lease.num_tokens)
        lease.release()
    return outcome


def _extend(lease: Lease, request: Request) -> bool:
    """Make room for the answer; one that finds none is not cached."""
    try:
        lease.extend(request.output)
    except OutOfBlocksError:
        return False
    return True


class _Timed:
    """A discrete-event simulation: arrivals, ends of prefills, ends of answers."""

    def __init__(
        self,
        cache: PrefixCache,
        settings: SimulateSettings,
        measure: Measure,
        recompute_last: bool,
        outcome: Outcome,
    ) -> None:
        self._cache = cache
        self._settings = settings
        self._measure = measure
        self._recompute_last = recompute_last
        self._outcome = outcome
        self._waiting: deque[tuple[int, Request]] = deque()
        # (time, serial, lease, request, whether its prefill is still to end)
        self._events: list[tuple[float, int, Lease, Request, bool]] = []
        self._serial = 0

    def run(self, requests: Sequence[Request], on_progress: Callable[[int], None]) -> None:
        block_bytes = self._cache.block_size * TOKEN_BYTES
        for index, request in enumerate(requests):
            if not index % _TICK:
                on_progress(index)
            now = (request.call.timestamp or 0.0) / self._settings.speed
            while self._events and self._events[0][0] <= now:
                self._next_event()
            if not request.prompt:
                continue
            if -(-len(request.prompt) // block_bytes) > self._cache.num_blocks:
                self._outcome.too_large.append(index)
                continue
            self._waiting.append((index, request))
            self._admit(now)
            self._outcome.waited += bool(self._waiting) and self._waiting[-1][0] == index
        while self._events:
            self._next_event()

    def _admit(self, now: float) -> None:
        while self._waiting:
            index, request = self._waiting[0]
            try:
                lease = self._cache.acquire(
                    request.prompt, request.namespace, recompute_last=self._recompute_last
                )
            except OutOfBlocksError:
                return
            self._waiting.popleft()
            cached = self._outcome.cached[index] = self._measure(lease, request)
            computed = request.call.prompt_tokens - cached
            self._schedule(now + computed / self._settings.prefill_speed, lease, request, True)

    def _next_event(self) -> None:
        now, _, lease, request, prefilling = heapq.heappop(self._events)
        lease.commit(lease.num_tokens)
        if prefilling:
            if request.output:
                _extend(lease, request)
            self._schedule(
                now + request.call.output_tokens / self._settings.decode_speed, lease, request, False
            )
            return
        lease.release()
        self._admit(now)

    def _schedule(self, time: float, lease: Lease, request: Request, prefilling: bool) -> None:
        self._serial += 1
        heapq.heappush(self._events, (time, self._serial, lease, request, prefilling))
