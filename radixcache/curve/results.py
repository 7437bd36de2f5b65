"""All curves asked of a log, as a report: the schema of its JSON, documented in docs/curve-json.md."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from radixcache.curve.curve import Curve, exact_curve, sampled_curve
from radixcache.curve.points import knee_of, round_capacities, thinned_capacities
from radixcache.logs.namespace import readable_namespace
from radixcache.version import __version__
from radixcache.workload.order import arrange
from radixcache.workload.references import References, reference_lists
from radixcache.workload.settings import SimulateSettings
from radixcache.workload.workload import Call, LoggedCalls, default_block_size

__all__ = ["SCHEMA", "CurvePoint", "CurveReport", "CurveRequest", "CurveSummary", "make_curves"]

SCHEMA = "radixcache.curve/1"

Progress = Callable[[str, int, int], None]
"""Told how far a phase is: its name, how many steps are done, and of how many."""


@dataclass(frozen=True, slots=True)
class CurveRequest:
    """What is asked of a log.

    Attributes:
        block_sizes: tokens a block; a curve for each; empty for `default_block_size`.
        by: `namespace` for a curve of each namespace, in its own cache; None for one shared cache.
        sample: share of the blocks to look at, above 0 and at most 1; None counts all of them.
        capacities: blocks; points that have to be among those reported. None stands for the saturation.
        clairvoyant: also compute the best that any policy could reach, at the capacities of the table; not
            for a sample.
        bytes_per_token: of the model's keys and values; None if no model was named.
    """

    block_sizes: tuple[int, ...] = ()
    by: Literal["namespace"] | None = None
    sample: float | None = None
    capacities: tuple[int | None, ...] = ()
    clairvoyant: bool = True
    bytes_per_token: int | None = None

    def __post_init__(self) -> None:
        if len(set(self.block_sizes)) != len(self.block_sizes):
            raise ValueError("block_sizes names a size twice")
        if self.by not in (None, "namespace"):
            raise ValueError(f"by is {self.by!r}; only namespace is known")
        if self.sample is not None and not 0 < self.sample <= 1:
            raise ValueError(f"sample must be above 0 and at most 1, got {self.sample:g}")
        for capacity in self.capacities:
            if capacity is not None and capacity < 1:
                raise ValueError(f"capacity must be at least 1 block, got {capacity}")


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """An LRU cache of one size.

    Attributes:
        namespace, block_size: the curve, as in `CurveSummary`.
        capacity_blocks, capacity_tokens: size of the cache.
        capacity_bytes: the same in bytes of the model's keys and values; None if no model was named.
        cached_tokens_whole_blocks: prompt tokens reused.
        hit_rate: the same over all prompt tokens, 0 to 1.
        standard_error: of the hit rate; 0 if it is exact.
        clairvoyant_hit_rate: the best any policy could reach there; None where it was not computed.
    """

    namespace: str | None
    block_size: int
    capacity_blocks: int
    capacity_tokens: int
    capacity_bytes: int | None
    cached_tokens_whole_blocks: int
    hit_rate: float
    standard_error: float
    clairvoyant_hit_rate: float | None


@dataclass(frozen=True, slots=True)
class CurveSummary:
    """One curve.

    Attributes:
        namespace: the only one counted; None if all share one cache.
        block_size: tokens a block.
        requests, prompt_tokens: what was counted.
        block_references: whole blocks of all prompts.
        distinct_blocks: how many of them are different.
        saturation_blocks: the smallest cache with the hit rate of an unbounded one.
        unbounded_cached_tokens, unbounded_hit_rate: what that one reuses.
        knee_blocks: after which more room brings clearly less; None if there is no such place.
        table_blocks: capacities worth a row in a table, rising.
    """

    namespace: str | None
    block_size: int
    requests: int
    prompt_tokens: int
    block_references: int
    distinct_blocks: int
    saturation_blocks: int
    unbounded_cached_tokens: int
    unbounded_hit_rate: float
    knee_blocks: int | None
    table_blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CurveReport:
    """Everything that --json holds.

    Attributes:
        schema: `radixcache.curve/1`.
        logs: the files read.
        requests: how many there are.
        bad_lines: lines that were no request and were skipped.
        unit_tokens: tokens that a known prefix is measured in: 1 for text and token ids, more for hashes.
        tokenizer: what tokenised the text; None if there was none.
        model, bytes_per_token: whose keys and values fill the cache; None if no model was named.
        by, sample: as in `CurveRequest`.
        arrivals, interleave, repeat, namespace_by: how requests came, as in `SimulateSettings`.
        curves: namespace by namespace, block size by block size.
        points: curve by curve, capacities rising.
        versions: of Python and the package.
    """

    schema: str
    logs: tuple[str, ...]
    requests: int
    bad_lines: int
    unit_tokens: int
    tokenizer: str | None
    model: str | None
    bytes_per_token: int | None
    by: str | None
    sample: float | None
    arrivals: str
    interleave: int | None
    repeat: int
    namespace_by: str | None
    curves: tuple[CurveSummary, ...]
    points: tuple[CurvePoint, ...]
    versions: dict[str, str]


def make_curves(
    workload: LoggedCalls,
    request: CurveRequest,
    settings: SimulateSettings,
    *,
    logs: Sequence[str] = (),
    bad_lines: int = 0,
    tokenizer: str | None = None,
    model: str | None = None,
    on_progress: Progress = lambda *_: None,
) -> CurveReport:
    """Compute every curve asked for.

    Args:
        workload: the log, from `load_workload`; repeated and ordered here.
        request: which curves.
        settings: how the requests come: their order, repetition and namespaces.
        logs, bad_lines, tokenizer, model: where all this comes from, for the report alone.
        on_progress: told how far a slow phase is.

    Raises:
        ValueError: a block size is below 1 or no multiple of the workload's unit, or a sample is too small.
        LogError: a timestamp is needed and missing.
    """
    workload = arrange(workload, settings)
    summaries: list[CurveSummary] = []
    points: list[CurvePoint] = []
    for namespace, calls in _parts(workload.calls, request.by):
        for block_size in request.block_sizes or (default_block_size(workload),):
            part = _Part(namespace, calls, block_size, workload.unit_tokens)
            summary, found = _curve(part, request, on_progress)
            summaries.append(summary)
            points += found
    return CurveReport(
        schema=SCHEMA,
        logs=tuple(logs),
        requests=len(workload.calls),
        bad_lines=bad_lines,
        unit_tokens=workload.unit_tokens,
        tokenizer=tokenizer,
        model=model,
        bytes_per_token=request.bytes_per_token,
        by=request.by,
        sample=request.sample,
        arrivals=settings.arrivals,
        interleave=settings.interleave,
        repeat=settings.repeat,
        namespace_by=settings.namespace_by,
        curves=tuple(summaries),
        points=tuple(points),
        versions={"python": platform.python_version(), "radixcache": __version__},
    )


class _Part(NamedTuple):
    namespace: str | None
    calls: Sequence[Call]
    block_size: int
    unit_tokens: int


def _parts(calls: Sequence[Call], by: str | None) -> Iterator[tuple[str | None, Sequence[Call]]]:
    if by is None:
        yield None, calls
        return
    parts: dict[str, list[Call]] = {}
    for call in calls:
        parts.setdefault(call.namespace, []).append(call)
    for name, part in parts.items():
        yield readable_namespace(name), part


def _curve(
    part: _Part, request: CurveRequest, on_progress: Progress
) -> tuple[CurveSummary, list[CurvePoint]]:
    log = part.calls, part.block_size, part.unit_tokens, part.namespace
    references: References | None = None
    if request.sample is None:
        curve, references = exact_curve(*log)
    else:
        try:
            curve = sampled_curve(*log, rate=request.sample)
        except ValueError as error:
            where = "" if part.namespace is None else f"namespace {part.namespace!r}: "
            raise ValueError(f"{where}{error}") from None
    last = curve.saturation
    wanted = {last if capacity is None else capacity for capacity in request.capacities} - {0}
    knee = knee_of(curve)
    table = sorted({*round_capacities(curve), *wanted, *([knee] if knee is not None else [])})
    best: dict[int, float] = {}
    if references is not None and request.clairvoyant:
        best = _clairvoyant(curve, references, table, on_progress)
    summary = CurveSummary(
        namespace=part.namespace,
        block_size=part.block_size,
        requests=curve.requests,
        prompt_tokens=curve.prompt_tokens,
        block_references=curve.references,
        distinct_blocks=curve.distinct_blocks,
        saturation_blocks=last,
        unbounded_cached_tokens=curve.cached_tokens(last),
        unbounded_hit_rate=curve.hit_rate(last),
        knee_blocks=knee,
        table_blocks=tuple(table),
    )
    shown = thinned_capacities(curve, table)
    return summary, [_point(curve, c, request.bytes_per_token, best.get(c)) for c in shown]


def _clairvoyant(
    curve: Curve, references: References, capacities: Sequence[int], on_progress: Progress
) -> dict[int, float]:
    """The bound's hit rate by capacity; where it has got all there is, so do larger caches."""
    from radixcache.simulate.clairvoyant import clairvoyant_hits

    paths = reference_lists(references)
    tokens = max(1, curve.prompt_tokens)
    unbounded = curve.hits.at(curve.saturation)
    rates, hits = {}, 0
    for done, capacity in enumerate(capacities):
        on_progress("clairvoyant", done, len(capacities))
        if hits < unbounded:
            hits = clairvoyant_hits(paths, capacity)
        rates[capacity] = hits * curve.block_size / tokens
    on_progress("clairvoyant", len(capacities), len(capacities))
    return rates


def _point(curve: Curve, capacity: int, bytes_per_token: int | None, clairvoyant: float | None) -> CurvePoint:
    tokens = capacity * curve.block_size
    return CurvePoint(
        namespace=curve.namespace,
        block_size=curve.block_size,
        capacity_blocks=capacity,
        capacity_tokens=tokens,
        capacity_bytes=None if bytes_per_token is None else tokens * bytes_per_token,
        cached_tokens_whole_blocks=curve.cached_tokens(capacity),
        hit_rate=curve.hit_rate(capacity),
        standard_error=curve.standard_error(capacity),
        clairvoyant_hit_rate=clairvoyant,
    )
