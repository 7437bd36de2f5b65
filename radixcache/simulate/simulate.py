"""A log against caches of every size and policy asked for: hit rates, and how far the best possible is.

What is simulated is `PrefixCache` itself, the class that the engine uses; `measure` says by which rules.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass

from radixcache.cache.eviction import make_policy
from radixcache.simulate.measure import Measurement, Progress
from radixcache.simulate.results import (
    CLAIRVOYANT,
    SimulatedRequest,
    SimulateReport,
    SimulateResult,
    with_gaps_closed,
)
from radixcache.version import __version__
from radixcache.workload.order import arrange
from radixcache.workload.settings import SimulateSettings
from radixcache.workload.workload import LoggedCalls, count_sessions, default_block_size

__all__ = ["SCHEMA", "Caches", "SimulateOutcome", "simulate"]

SCHEMA = "radixcache.simulate/1"


@dataclass(frozen=True, slots=True)
class Caches:
    """The caches to compare: every policy at every capacity and block size.

    Attributes:
        policies: names in `radixcache.cache.eviction.policies`, and `clairvoyant`.
        capacities: blocks; None for a cache that never evicts.
        block_sizes: tokens in a block, multiples of the workload's unit; empty for `default_block_size`.
    """

    policies: Sequence[str]
    capacities: Sequence[int | None]
    block_sizes: Sequence[int] = ()

    def __post_init__(self) -> None:
        for policy in self.policies:
            if policy != CLAIRVOYANT:
                make_policy(policy)
        for capacity in self.capacities:
            if capacity is not None and capacity < 1:
                raise ValueError(f"capacity must be at least 1 block, got {capacity}")
        for size in self.block_sizes:
            if size < 1:
                raise ValueError(f"block_size must be at least 1, got {size}")
        for name in ("policies", "capacities", "block_sizes"):
            values = list(getattr(self, name))
            if len(set(values)) != len(values):
                raise ValueError(f"{name} names {max(values, key=values.count)} twice")


@dataclass(frozen=True, slots=True)
class SimulateOutcome:
    """The report, and what became of each request of each run, in order of run and index, if asked for."""

    report: SimulateReport
    records: list[SimulatedRequest]


def simulate(
    workload: LoggedCalls,
    caches: Caches,
    settings: SimulateSettings,
    *,
    logs: Sequence[str] = (),
    bad_lines: int = 0,
    tokenizer: str | None = None,
    keep_records: bool = False,
    on_progress: Progress = lambda *_: None,
) -> SimulateOutcome:
    """Run every cache on the workload.

    Args:
        workload: the log, from `load_workload`; repeated and ordered here.
        caches: what to compare.
        settings: how the requests come.
        logs, bad_lines, tokenizer: where they come from, for the report alone.
        keep_records: also say what became of each request.
        on_progress: told how far each run is.

    Raises:
        ValueError: a block size is not a multiple of the workload's unit; the message names both.
        LogError: a timestamp is needed and missing.
    """
    block_sizes = tuple(caches.block_sizes) or (default_block_size(workload),)
    for size in block_sizes:
        if size % workload.unit_tokens:
            raise ValueError(
                f"block_size must be a multiple of {workload.unit_tokens}, the tokens of the log's hashes, "
                f"got {size}"
            )
    workload = arrange(workload, settings)
    results: list[SimulateResult] = []
    records: list[SimulatedRequest] = []
    for size in block_sizes:
        measurement = Measurement(workload, size, settings, on_progress)
        for capacity in caches.capacities:
            for policy in caches.policies:
                result, of_run = measurement.run(policy, capacity, keep_records=keep_records)
                results.append(result)
                records += of_run
    calls = workload.calls
    report = SimulateReport(
        schema=SCHEMA,
        logs=tuple(logs),
        requests=len(calls),
        sessions=count_sessions(call.session for call in calls),
        bad_lines=bad_lines,
        prompt_tokens=sum(call.prompt_tokens for call in calls),
        unit_tokens=workload.unit_tokens,
        tokenizer=tokenizer,
        arrivals=settings.arrivals,
        speed=settings.speed,
        prefill_speed=settings.prefill_speed,
        decode_speed=settings.decode_speed,
        interleave=settings.interleave,
        repeat=settings.repeat,
        namespace_by=settings.namespace_by,
        outputs=settings.outputs,
        whole_blocks=settings.whole_blocks,
        results=tuple(with_gaps_closed(results)),
        versions={"python": platform.python_version(), "radixcache": __version__},
    )
    return SimulateOutcome(report, records)
