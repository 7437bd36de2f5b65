"""Medians of many timings by CUDA events, launches recorded beforehand so that they cost nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import torch

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds a call.

    Attributes:
        median_s, min_s, max_s: over all samples.
        samples: how many.
        how: "graph" (replays of a CUDA graph), "events" (calls launched one by one), or "clock" (a CPU).
    """

    median_s: float
    min_s: float
    max_s: float
    samples: int
    how: str


def time_calls(calls: Sequence[Call], device: torch.device, budget_s: float) -> Timing:
    """Time calls that take turns, for about `budget_s` seconds, after a warm-up.

    On a GPU a sample is the time of one round of all calls, by two events around the replay of a graph of
    them; where they cannot be captured, around the calls themselves.
    """
    if device.type != "cuda":
        return _summary([_clock(call) for call in calls], "clock")
    for call in calls:
        call()
    torch.cuda.synchronize()
    play, how = _round_of(calls)
    play()
    once = _events(play, 3)[-1]
    count = int(min(200, max(10, budget_s / max(once, 1e-6))))
    _events(play, max(3, count // 10))
    return _summary([sample / len(calls) for sample in _events(play, count)], how)


def _round_of(calls: Sequence[Call]) -> tuple[Call, str]:
    """All calls one after the other, as a graph if they can be captured."""

    def play() -> None:
        for call in calls:
            call()

    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            play()
    except RuntimeError:
        torch.cuda.synchronize()
        return play, "events"
    return graph.replay, "graph"


def _events(play: Call, count: int) -> list[float]:
    """Seconds of each of `count` plays, queued without waiting in between."""
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]  # type: ignore[no-untyped-call]
    marks[0].record()
    for mark in marks[1:]:
        play()
        mark.record()
    torch.cuda.synchronize()
    return [before.elapsed_time(after) / 1e3 for before, after in pairwise(marks)]


def _clock(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _summary(samples: list[float], how: str) -> Timing:
    return Timing(median(samples), min(samples), max(samples), len(samples), how)
