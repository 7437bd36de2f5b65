"""What the charts of single requests show: the hit rate as requests come, and how long first tokens took."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from radixcache.report.html.records import Record, RequestLog, run_name

__all__ = ["hit_rates_over_time", "times_to_first_token"]

_BUCKETS = 200
_BINS = 36


def hit_rates_over_time(log: RequestLog) -> list[dict[str, Any]]:
    """For each run at most 200 buckets of consecutive requests, with the sums of each.

    Returns:
        Objects with `run` and `buckets`, like the timeline of the doctor: `request` (of the first in it),
        `timestamp` (null, as records hold none), `prompt_tokens`, `cached_tokens`.
    """
    ordered = sorted(log.records, key=lambda record: (run_name(record), record.index))
    runs = {name: list(group) for name, group in groupby(ordered, key=run_name)}
    shown = {name: runs[name] for name in dict.fromkeys(map(run_name, log.records)) if name != "cache off"}
    return [{"run": name, "buckets": _buckets(records)} for name, records in shown.items()]


def _buckets(records: Sequence[Record]) -> list[dict[str, Any]]:
    size = -(-len(records) // _BUCKETS)
    parts = (records[start : start + size] for start in range(0, len(records), size))
    return [
        {
            "request": part[0].index,
            "timestamp": None,
            "prompt_tokens": sum(record.prompt_tokens for record in part),
            "cached_tokens": sum(record.cached_tokens for record in part),
        }
        for part in parts
    ]


def times_to_first_token(log: RequestLog) -> dict[str, Any] | None:
    """Distributions of the time to the first token, over bins of equal ratios that all runs share.

    Returns:
        None without times, else `edges` (seconds, one more than bins) and `runs`: `run`, `requests` and
        `shares` (of the requests of that run, a number a bin).
    """
    times: dict[str, list[float]] = {}
    for record in log.replayed:
        if record.ttft_s is not None and record.ttft_s > 0:
            times.setdefault(record.run, []).append(record.ttft_s)
    if not times:
        return None
    least = min(map(min, times.values()))
    most = max(*map(max, times.values()), least * 1.01)
    edges = np.geomspace(least, most, _BINS + 1)
    edges[0], edges[-1] = least, most
    return {
        "edges": edges.tolist(),
        "runs": [
            {
                "run": run,
                "requests": len(times[run]),
                "shares": (np.histogram(times[run], edges)[0] / len(times[run])).tolist(),
            }
            for run in ("off", "on")
            if run in times
        ],
    }
