"""One workload at one block size, through caches of any policy and capacity.

Two rules of counting are in use, and each takes its own run, since what is kept differs, too:

- as an engine serves: a prompt's last block is kept even if it is not full, what matches of a block is
  reused token by token, the last token of a prompt is always computed, and a prompt larger than the cache is
  refused;
- as published hit rates are counted: a prompt is its whole blocks and all of them may be reused; what is not
  a whole block takes no room, and of a prompt larger than the cache the head is kept.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from radixcache.cache.lease import Lease
from radixcache.cache.misses import MissReason
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.simulate.drive import Measure, Outcome, drive
from radixcache.simulate.results import CLAIRVOYANT, SimulatedRequest, SimulateResult
from radixcache.tokens import TOKEN_BYTES
from radixcache.workload.settings import SimulateSettings
from radixcache.workload.views import Request, block_view, cut_to, references_of, token_view
from radixcache.workload.workload import LoggedCalls

__all__ = ["Measurement", "Progress"]

Progress = Callable[[str, int, int], None]
"""Told how far a run is: its name, how many requests are done, and of how many."""

_FULL_HIT = {str(MissReason.LAST_TOKEN): 1}


@dataclass(frozen=True, slots=True)
class _Counts:
    """A run by both rules; `evictions` of the one that the run is for."""

    served: Outcome
    whole: Outcome
    evictions: int | None


class Measurement:
    """Runs caches on a workload; references and views of it are made once.

    Args:
        workload: the requests in order of arrival.
        block_size: tokens in a block, a multiple of the workload's unit.
        settings: how they come, and whether only whole blocks are counted.
        on_progress: told how far each run is.
    """

    def __init__(
        self,
        workload: LoggedCalls,
        block_size: int,
        settings: SimulateSettings,
        on_progress: Progress = lambda *_: None,
    ) -> None:
        self._calls = workload.calls
        self._unit_tokens = workload.unit_tokens
        self._block_size = block_size
        self._settings = settings
        self._on_progress = on_progress
        self._prompt_tokens = sum(call.prompt_tokens for call in workload.calls)
        references = references_of(workload, block_size, outputs=settings.outputs)
        self._num_blocks = references.num_blocks
        self._blocks = block_view(workload, block_size, references, outputs=settings.outputs)
        self._tokens = [] if settings.whole_blocks else token_view(workload, outputs=settings.outputs)

    def run(
        self, policy: str, capacity: int | None, *, keep_records: bool = False
    ) -> tuple[SimulateResult, list[SimulatedRequest]]:
        """One cache of `capacity` blocks, None for one that never evicts; records only if they are kept."""
        counts = self._clairvoyant(capacity) if policy == CLAIRVOYANT else self._cache(policy, capacity)
        cached, cached_whole = sum(counts.served.cached), sum(counts.whole.cached)
        result = SimulateResult(
            policy=policy,
            capacity_blocks=capacity,
            capacity_tokens=None if capacity is None else capacity * self._block_size,
            block_size=self._block_size,
            requests=len(self._calls),
            prompt_tokens=self._prompt_tokens,
            cached_tokens=cached,
            cached_tokens_whole_blocks=cached_whole,
            hit_rate=cached / self._prompt_tokens,
            hit_rate_whole_blocks=cached_whole / self._prompt_tokens,
            gap_closed=None,
            evictions=counts.evictions,
            too_large=len(counts.served.too_large),
            waited=counts.served.waited,
        )
        return result, list(self._records(result, counts)) if keep_records else []

    def _cache(self, policy: str, capacity: int | None) -> _Counts:
        requests = self._blocks if capacity is None else cut_to(self._blocks, capacity)
        whole, evictions = self._drive(
            requests, policy, capacity, 1, self._whole_blocks, recompute_last=False
        )
        if self._settings.whole_blocks:
            return _Counts(whole, whole, evictions)
        units = self._block_size // self._unit_tokens
        served, evictions = self._drive(
            self._tokens, policy, capacity, units, self._as_served, recompute_last=True
        )
        return _Counts(served, whole, evictions)

    def _as_served(self, lease: Lease, request: Request) -> int:
        """Tokens reused, where a lease counts units: all but the last token at most, not all but a unit."""
        tokens = request.call.prompt_tokens
        if lease.misses == _FULL_HIT:
            return tokens - 1
        return min(lease.num_cached_tokens * self._unit_tokens, tokens - 1)

    def _whole_blocks(self, lease: Lease, _: Request) -> int:
        return lease.num_cached_tokens * self._block_size

    def _drive(
        self,
        requests: Sequence[Request],
        policy: str,
        capacity: int | None,
        block_units: int,
        measure: Measure,
        *,
        recompute_last: bool,
    ) -> tuple[Outcome, int]:
        size = _enough(requests, block_units) if capacity is None else capacity
        cache = PrefixCache(size, block_units, policy=policy, explain=False)
        rule = "as served" if recompute_last else "whole blocks"
        name = f"{policy}, {'unbounded' if capacity is None else f'{capacity:,} blocks'}, {rule}"
        total = len(requests)
        outcome = drive(
            cache,
            requests,
            self._settings,
            measure,
            recompute_last=recompute_last,
            on_progress=lambda done: self._on_progress(name, done, total),
        )
        self._on_progress(name, total, total)
        return outcome, cache.stats().evicted_blocks

    def _clairvoyant(self, capacity: int | None) -> _Counts:
        from radixcache.simulate.clairvoyant import clairvoyant_hits_per_call

        prompts = [memoryview(request.prompt).cast("i") for request in self._blocks]
        hits = clairvoyant_hits_per_call(prompts, capacity or max(1, self._num_blocks))
        whole = Outcome(array("q", (count * self._block_size for count in hits)))
        if self._settings.whole_blocks:
            return _Counts(whole, whole, None)
        all_but_one = (
            min(cached, call.prompt_tokens - 1)
            for cached, call in zip(whole.cached, self._calls, strict=True)
        )
        return _Counts(Outcome(array("q", all_but_one)), whole, None)

    def _records(self, result: SimulateResult, counts: _Counts) -> Iterator[SimulatedRequest]:
        too_large = set(counts.served.too_large)
        for index, call in enumerate(self._calls):
            yield SimulatedRequest(
                policy=result.policy,
                capacity_blocks=result.capacity_blocks,
                block_size=result.block_size,
                index=index,
                source=call.source,
                line=call.line,
                session=call.session,
                namespace=call.namespace,
                prompt_tokens=call.prompt_tokens,
                cached_tokens=counts.served.cached[index],
                cached_tokens_whole_blocks=counts.whole.cached[index],
                too_large=index in too_large,
            )


def _enough(requests: Iterable[Request], block_units: int) -> int:
    """Blocks that suffice for all requests at once, whatever they share."""
    width = block_units * TOKEN_BYTES
    return 1 + sum(-(-(len(r.prompt) + len(r.output)) // width) for r in requests)
