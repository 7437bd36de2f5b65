"""A log repeated, and its requests in the order in which they reach the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from radixcache.errors import LogError
from radixcache.workload.interleave import interleave
from radixcache.workload.settings import SimulateSettings
from radixcache.workload.workload import Call, LoggedCalls, Workload

__all__ = ["arrange"]


def arrange(workload: LoggedCalls, settings: SimulateSettings) -> Workload:
    """Repeat a workload and order it as the settings say.

    A repetition is the same log again with new sessions: same prompts, same namespaces. By timestamps
    it begins after the one before, at the log's mean distance between requests.

    Raises:
        LogError: a timestamp is needed and missing; the message names the line.
    """
    calls = workload.calls
    if settings.arrivals == "timestamps":
        calls = sorted(calls, key=_time)
        calls = _repeat(calls, settings.repeat, _period(calls) if settings.repeat > 1 else 0.0)
    else:
        calls = _repeat(calls, settings.repeat, 0.0)
        if settings.interleave is not None:
            calls = interleave(calls, settings.interleave, lambda call: call.session)
    return Workload(workload.unit_tokens, calls)


def _time(call: Call) -> float:
    if call.timestamp is None:
        raise LogError(
            f"{call.source}, line {call.line}: timestamp is missing; arrivals by timestamp need it"
        )
    return call.timestamp


def _period(calls: Sequence[Call]) -> float:
    times = [_time(call) for call in calls]
    span = times[-1] - times[0] if times else 0.0
    gaps = sum(1 for _ in pairwise(times))
    return span + (span / gaps if gaps else 0.0)


def _repeat(calls: Sequence[Call], times: int, period: float) -> Sequence[Call]:
    if times == 1:
        return calls
    repeated = list(calls)
    for turn in range(1, times):
        repeated += [
            replace(
                call,
                session=None if call.session is None else f"{call.session} #{turn + 1}",
                timestamp=None if call.timestamp is None else call.timestamp + turn * period,
            )
            for call in calls
        ]
    return repeated
