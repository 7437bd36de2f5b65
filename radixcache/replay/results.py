"""What a replay found: the schema of its JSON, documented in docs/replay-json.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "DifferingRequest",
    "Percentiles",
    "ReplayReport",
    "RequestRecord",
    "RunSummary",
    "Verdict",
    "summarise",
]

Verdict = Literal["rounding", "wrong", "failed"]
"""A difference between two outputs: within what rounding explains, beyond it, or the failure of one run."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Percentiles of a time in seconds, interpolated linearly; None where nothing was measured."""

    p50: float | None
    p90: float | None
    p99: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Percentiles:
        """Percentiles of measured values in any order."""
        ordered = sorted(values)
        return cls(*(_percentile(ordered, share) for share in (0.50, 0.90, 0.99)))


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    if not ordered:
        return None
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """What one request of one run gave: a line of --requests-out.

    Attributes:
        run: `on` or `off`.
        index: place in the order of submission, from 0; the same in both runs of a comparison.
        source, line, session: where the request stands in the log.
        namespace: the cache namespace it ran in.
        prompt_tokens: length of the prompt; 0 if it could not be tokenised.
        cached_tokens: how many of them were not computed again.
        misses: reason -> tokens; with `cached_tokens` they add up to `prompt_tokens`.
        diverged_at: token at which the prompt left everything seen before.
        ttft_s, queue_s, latency_s: seconds from submission to the first token, to admission, to the end.
        output_ids: the generated token ids.
        finish_reason: `stop`, `length` or `abort`.
        error: why the request was refused or failed; times and reason are then None.
    """

    run: str
    index: int
    source: str
    line: int
    session: str | None
    namespace: str
    prompt_tokens: int
    cached_tokens: int = 0
    misses: dict[str, int] = field(default_factory=dict)
    diverged_at: int | None = None
    ttft_s: float | None = None
    queue_s: float | None = None
    latency_s: float | None = None
    output_ids: tuple[int, ...] = ()
    finish_reason: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One pass over the log. Token counts are of the requests that were answered.

    Attributes:
        cache: `on` or `off`.
        requests: requests answered.
        refused: requests that the model or the cache could not take.
        prompt_tokens: prompt tokens of the answered requests.
        cached_tokens: prompt tokens whose keys and values were reused.
        hit_rate: cached_tokens / prompt_tokens, 0 to 1.
        prefill_tokens: tokens that went through the model before a first token, those of preempted
            requests each time.
        decode_tokens: tokens computed one at a time after that.
        ttft_s: time from submission to the first token.
        latency_s: time from submission to the end.
        wall_s: from the first submission to the last end.
        missed_tokens: reason -> prompt tokens; with cached_tokens they add up to prompt_tokens.
        block_waste: share of the room in used blocks that holds no token, as the pool reports it.
        control_share: share of the engine's working time that went to the control plane.
        preemptions: sequences that gave up their blocks to others and were resumed.
        batch_invariant: whether the engine says that its outputs do not depend on what else runs, nor on
            what was cached; None in reports that do not tell.
        variance: why they may, as the engine puts it; empty if they do not.
    """

    cache: str
    requests: int
    refused: int
    prompt_tokens: int
    cached_tokens: int
    hit_rate: float
    prefill_tokens: int
    decode_tokens: int
    ttft_s: Percentiles
    latency_s: Percentiles
    wall_s: float
    missed_tokens: dict[str, int]
    block_waste: float
    control_share: float
    preemptions: int
    batch_invariant: bool | None = None
    variance: str = ""


@dataclass(frozen=True, slots=True)
class DifferingRequest:
    """A request whose output was not the same with the cache on as with it off.

    Attributes:
        index, source, line: the request, as in `RequestRecord`.
        token: first position in the output at which the two differ.
        off, on: the output ids of each run from there, at most eight.
        margin: how far, in logits, the less likely of the two tokens there lies below the likeliest token,
            asked again with the cache off; None if that was not found out.
        bound: the largest margin that rounding explains.
        verdict: what `margin` and `bound` say of it, or that the request failed in one run; None if it was
            not examined.
    """

    index: int
    source: str
    line: int
    token: int
    off: tuple[int, ...]
    on: tuple[int, ...]
    margin: float | None = None
    bound: float | None = None
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """Everything that --json holds.

    Attributes:
        schema: `radixcache.replay/1`.
        logs: the files read.
        requests: requests replayed, refused ones included.
        sessions: different sessions among them; a request without one counts as its own.
        bad_lines: lines that were no request and were skipped.
        identical_outputs: whether every request answered in both runs gave the same tokens, and none was
            answered in one run only; None if there was one run.
        differing_requests: those that were not the same.
        runs: one or two, in the order in which they ran.
        model, dtype, device: what answered.
        block_size: tokens in a block.
        cache_tokens: room for KV in tokens, as asked for; None if sized by memory.
        max_tokens, arrivals, concurrency, interleave: how requests were sent.
        versions: of Python and the packages that matter.
        kv_dtype: what keys and values were stored as; `auto` is `dtype`.
        invariant: whether outputs independent of batching were asked for: `auto`, `on` or `off`.
    """

    schema: str
    logs: tuple[str, ...]
    requests: int
    sessions: int
    bad_lines: int
    identical_outputs: bool | None
    differing_requests: tuple[DifferingRequest, ...]
    runs: tuple[RunSummary, ...]
    model: str
    dtype: str
    device: str
    block_size: int
    cache_tokens: int | None
    max_tokens: int
    arrivals: str
    concurrency: int
    interleave: int | None
    versions: dict[str, str]
    kv_dtype: str = "auto"
    invariant: str = "auto"


def summarise(
    cache: str,
    records: Sequence[RequestRecord],
    *,
    prefill_tokens: int,
    decode_tokens: int,
    wall_s: float,
    block_waste: float,
    control_share: float,
    preemptions: int,
    batch_invariant: bool | None = None,
    variance: str = "",
) -> RunSummary:
    """Add up the records of one run; the rest is what the engine counted itself."""
    answered = [record for record in records if record.error is None]
    prompt_tokens = sum(record.prompt_tokens for record in answered)
    cached_tokens = sum(record.cached_tokens for record in answered)
    missed: dict[str, int] = {}
    for record in answered:
        for reason, tokens in record.misses.items():
            missed[reason] = missed.get(reason, 0) + tokens
    return RunSummary(
        cache=cache,
        requests=len(answered),
        refused=len(records) - len(answered),
        prompt_tokens=prompt_tokens,
        cached_tokens=cached_tokens,
        hit_rate=cached_tokens / prompt_tokens if prompt_tokens else 0.0,
        prefill_tokens=prefill_tokens,
        decode_tokens=decode_tokens,
        ttft_s=Percentiles.of([record.ttft_s for record in answered if record.ttft_s is not None]),
        latency_s=Percentiles.of([record.latency_s for record in answered if record.latency_s is not None]),
        wall_s=wall_s,
        missed_tokens=dict(sorted(missed.items(), key=lambda item: -item[1])),
        block_waste=block_waste,
        control_share=control_share,
        preemptions=preemptions,
        batch_invariant=batch_invariant,
        variance=variance,
    )
