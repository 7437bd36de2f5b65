"""Run prepared requests through an engine, with the prefix cache off, on, or one after the other."""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter
from typing import Any

from radixcache.engine.params import SamplingParams
from radixcache.errors import RadixCacheError
from radixcache.replay.arrivals import by_timestamp, closed_loop
from radixcache.replay.compare import differing_requests
from radixcache.replay.examine import examine
from radixcache.replay.prepare import ReplayRequest
from radixcache.replay.protocols import EngineFactory, EngineLike, HandleLike
from radixcache.replay.results import DifferingRequest, ReplayReport, RequestRecord, RunSummary, summarise
from radixcache.replay.settings import ReplaySettings
from radixcache.replay.target import ReplayTarget
from radixcache.workload.workload import count_sessions

__all__ = ["SCHEMA", "Progress", "ReplayOutcome", "replay"]

SCHEMA = "radixcache.replay/1"
_WARM_UP_TOKENS = 64
_PACKAGES = ("radixcache", "torch", "transformers")


Progress = Callable[[str, int, int], None]
"""Told of the start of a run and of every request that has ended: the run (`off` or `on`; `compare` while
differing outputs are examined), how many are done, and of how many."""


@dataclass(frozen=True, slots=True)
class ReplayOutcome:
    """The report, and the records of every run in order of run and index."""

    report: ReplayReport
    records: list[RequestRecord]


def replay(
    requests: Sequence[ReplayRequest],
    target: ReplayTarget,
    settings: ReplaySettings,
    *,
    logs: Sequence[str],
    bad_lines: int = 0,
    on_progress: Progress = lambda *_: None,
    on_variance: Callable[[str], None] = lambda _: None,
) -> ReplayOutcome:
    """Replay the requests once or, to compare, first with the cache off and then with it on.

    Each run has a fresh engine. Before the first one a short request goes through an engine that is thrown
    away, so that neither run pays for what a process does once. Prompts are continued greedily. Where two
    runs gave different outputs, one more engine, with the cache off, is asked how close a choice it was
    (`examine`).

    Args:
        requests: at least one, from `prepare`.
        target: what answers them.
        settings: how they are sent.
        logs, bad_lines: where they come from, for the report alone.
        on_progress: told of every request that has ended.
        on_variance: told once, before the first run, why outputs may depend on what else runs, if the engine
            says so; the reason may be empty.

    Raises:
        Exception: whatever made the engine fail; a single refused or failed request is recorded instead.
    """
    runs = ("off", "on") if settings.cache == "compare" else (settings.cache,)
    _warm_up(requests, target.make_engine)
    summaries: list[RunSummary] = []
    records: list[list[RequestRecord]] = []
    for run in runs:
        engine = target.make_engine(run == "on")
        try:
            if not summaries and not (stats := engine.stats()).batch_invariant:
                on_variance(stats.variance)
            summary, of_run = _Run(run, engine, settings, len(requests), on_progress).execute(requests)
        finally:
            engine.close()
        summaries.append(summary)
        records.append(of_run)
    differing = _compare(requests, records, target, settings, on_progress) if len(runs) == 2 else []
    report = ReplayReport(
        schema=SCHEMA,
        logs=tuple(logs),
        requests=len(requests),
        sessions=count_sessions(request.session for request in requests),
        bad_lines=bad_lines,
        identical_outputs=not differing if len(runs) == 2 else None,
        differing_requests=tuple(differing),
        runs=tuple(summaries),
        model=target.model,
        dtype=target.dtype,
        device=target.device,
        block_size=target.block_size,
        cache_tokens=target.cache_tokens,
        max_tokens=settings.max_tokens,
        arrivals=settings.arrivals,
        concurrency=settings.concurrency,
        interleave=settings.interleave,
        versions=_versions(),
        kv_dtype=target.kv_dtype,
        invariant=target.invariant,
    )
    return ReplayOutcome(report, [record for of_run in records for record in of_run])


def _warm_up(requests: Sequence[ReplayRequest], make_engine: EngineFactory) -> None:
    tokens = next((request.tokens[:_WARM_UP_TOKENS] for request in requests if request.error is None), None)
    if tokens is None:
        return
    engine = make_engine(False)
    try:
        engine.submit(tokens, SamplingParams(max_tokens=2)).result()
    except (RadixCacheError, ValueError):
        pass  # a request that cannot be served is recorded by the run itself
    finally:
        engine.close()


def _compare(
    requests: Sequence[ReplayRequest],
    records: Sequence[Sequence[RequestRecord]],
    target: ReplayTarget,
    settings: ReplaySettings,
    on_progress: Progress,
) -> list[DifferingRequest]:
    off, on = records
    differing = differing_requests(off, on)
    if all(request.verdict is not None for request in differing):
        return differing
    try:
        engine = target.make_engine(False)
    except (RadixCacheError, ValueError):
        return differing  # without verdicts: the runs are over, and their report must not be lost
    try:
        return examine(
            differing,
            requests,
            {record.index: record.output_ids for record in off},
            engine,
            dtype=target.dtype,
            kv_dtype=target.kv_dtype,
            concurrency=settings.concurrency,
            on_progress=lambda done, total: on_progress("compare", done, total),
        )
    finally:
        engine.close()


class _Run:
    """One pass over the requests."""

    def __init__(
        self, name: str, engine: EngineLike, settings: ReplaySettings, total: int, on_progress: Progress
    ) -> None:
        self._name = name
        self._engine = engine
        self._settings = settings
        self._total = total
        self._on_progress = on_progress
        self._records: dict[int, RequestRecord] = {}
        self._lock = threading.Lock()

    def execute(self, requests: Sequence[ReplayRequest]) -> tuple[RunSummary, list[RequestRecord]]:
        self._on_progress(self._name, 0, self._total)
        begin = perf_counter()
        if self._settings.arrivals == "timestamps":
            timed = [(request.timestamp or 0.0, request) for request in requests]
            by_timestamp(timed, self._start, self._finish, speed=self._settings.speed)
        else:
            closed_loop(requests, self._start, self._finish, concurrency=self._settings.concurrency)
        wall_s = perf_counter() - begin
        stats = self._engine.stats()
        records = [self._records[request.index] for request in requests]
        summary = summarise(
            self._name,
            records,
            prefill_tokens=stats.prefill_tokens,
            decode_tokens=stats.decode_tokens,
            wall_s=wall_s,
            block_waste=stats.block_waste,
            control_share=stats.control_s / stats.step_s if stats.step_s else 0.0,
            preemptions=stats.preemptions,
            batch_invariant=stats.batch_invariant,
            variance=stats.variance,
        )
        return summary, records

    def _start(self, request: ReplayRequest) -> HandleLike | None:
        if request.error is not None:
            self._refuse(request, request.error)
            return None
        params = SamplingParams(max_tokens=request.max_tokens, ignore_eos=self._settings.ignore_eos)
        try:
            return self._engine.submit(request.tokens, params, namespace=request.namespace)
        except (RadixCacheError, ValueError) as error:
            self._refuse(request, str(error))
            return None

    def _finish(self, request: ReplayRequest, handle: HandleLike) -> None:
        try:
            result = handle.result()
        except RadixCacheError as error:
            self._refuse(request, str(error))
            return
        self._record(
            request,
            prompt_tokens=result.prompt_tokens,
            cached_tokens=result.cached_tokens,
            misses={str(reason): tokens for reason, tokens in result.misses.items() if tokens},
            diverged_at=result.diverged_at,
            ttft_s=result.ttft,
            queue_s=result.queue_time,
            latency_s=result.latency,
            output_ids=tuple(result.token_ids),
            finish_reason=result.finish_reason,
        )

    def _refuse(self, request: ReplayRequest, error: str) -> None:
        self._record(request, prompt_tokens=len(request.tokens), error=error)

    def _record(self, request: ReplayRequest, **outcome: Any) -> None:
        """Note what became of a request; `outcome` are fields of `RequestRecord`."""
        record = RequestRecord(
            run=self._name,
            index=request.index,
            source=request.source,
            line=request.line,
            session=request.session,
            namespace=request.namespace,
            **outcome,
        )
        with self._lock:
            self._records[record.index] = record
            self._on_progress(self._name, len(self._records), self._total)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
