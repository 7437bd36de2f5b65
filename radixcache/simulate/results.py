"""What a simulation found: the schema of its JSON, documented in docs/simulate-json.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

__all__ = ["CLAIRVOYANT", "SimulateReport", "SimulateResult", "SimulatedRequest", "with_gaps_closed"]

CLAIRVOYANT = "clairvoyant"
"""Name of the bound that is listed among the policies."""

_BASE = "lru"


@dataclass(frozen=True, slots=True)
class SimulatedRequest:
    """One request of one run: a line of --requests-out.

    Attributes:
        policy, capacity_blocks, block_size: the run, as in `SimulateResult`.
        index: place in the order of arrival, from 0; the same in all runs.
        source, line, session, namespace: the request.
        prompt_tokens: length of the prompt.
        cached_tokens, cached_tokens_whole_blocks: as in `SimulateResult`.
        too_large: whether the prompt was larger than the cache.
    """

    policy: str
    capacity_blocks: int | None
    block_size: int
    index: int
    source: str
    line: int
    session: str | None
    namespace: str
    prompt_tokens: int
    cached_tokens: int
    cached_tokens_whole_blocks: int
    too_large: bool


@dataclass(frozen=True, slots=True)
class SimulateResult:
    """One policy at one capacity and block size.

    Attributes:
        policy: name of the policy, or `clairvoyant`.
        capacity_blocks: size of the cache; None if it never had to evict.
        capacity_tokens: the same in tokens.
        block_size: tokens in a block.
        requests: requests of the log, those too large included.
        prompt_tokens: tokens of their prompts.
        cached_tokens: tokens reused as an engine reuses them: a block that matches in part is copied, the
            last token of a prompt is always computed, and a prompt holds its blocks while it is served.
        cached_tokens_whole_blocks: tokens reused by the rule of published hit rates: whole blocks only, the
            last one of a prompt as well.
        hit_rate: cached_tokens / prompt_tokens, 0 to 1.
        hit_rate_whole_blocks: cached_tokens_whole_blocks / prompt_tokens.
        gap_closed: of the hits between LRU and clairvoyant, by whole blocks, the share that this policy gets;
            None if either was not run, or there is nothing between them.
        evictions: blocks that made room for others; None for clairvoyant.
        too_large: requests whose prompts were larger than the cache, and got nothing from it.
        waited: requests that had to wait for others to end; only for arrivals by timestamp.
    """

    policy: str
    capacity_blocks: int | None
    capacity_tokens: int | None
    block_size: int
    requests: int
    prompt_tokens: int
    cached_tokens: int
    cached_tokens_whole_blocks: int
    hit_rate: float
    hit_rate_whole_blocks: float
    gap_closed: float | None
    evictions: int | None
    too_large: int
    waited: int


@dataclass(frozen=True, slots=True)
class SimulateReport:
    """Everything that --json holds.

    Attributes:
        schema: `radixcache.simulate/1`.
        logs: the files read.
        requests: requests simulated, repetitions included.
        sessions: different sessions among them; a request without one counts as its own.
        bad_lines: lines that were no request and were skipped.
        prompt_tokens: tokens of all prompts.
        unit_tokens: tokens that a known prefix is measured in: 1 for text and token ids, more for hashes.
        tokenizer: what tokenised the text; None if there was none.
        arrivals, speed, prefill_speed, decode_speed, interleave, repeat, namespace_by, outputs, whole_blocks:
            as in `SimulateSettings`.
        results: block size by block size, capacity by capacity, policy by policy.
        versions: of Python and the package.
    """

    schema: str
    logs: tuple[str, ...]
    requests: int
    sessions: int
    bad_lines: int
    prompt_tokens: int
    unit_tokens: int
    tokenizer: str | None
    arrivals: str
    speed: float
    prefill_speed: float
    decode_speed: float
    interleave: int | None
    repeat: int
    namespace_by: str | None
    outputs: bool
    whole_blocks: bool
    results: tuple[SimulateResult, ...]
    versions: dict[str, str]


def with_gaps_closed(results: Sequence[SimulateResult]) -> list[SimulateResult]:
    """The same results with `gap_closed` where LRU and clairvoyant were run beside them."""
    hits = {(r.policy, r.capacity_blocks, r.block_size): r.cached_tokens_whole_blocks for r in results}
    filled = []
    for result in results:
        at = (result.capacity_blocks, result.block_size)
        least, most = hits.get((_BASE, *at)), hits.get((CLAIRVOYANT, *at))
        share = None
        if least is not None and most is not None and most > least:
            share = (result.cached_tokens_whole_blocks - least) / (most - least)
        filled.append(replace(result, gap_closed=share))
    return filled
