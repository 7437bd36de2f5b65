"""The hit-rate curve of a log: what an LRU prefix cache of any size would have reused.

Counting rule: requests one after another, prompts only, whole blocks only; a block hits if it and all before
it are in the cache; tails are evicted before heads; a prompt longer than the cache leaves its first blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from radixcache.curve.distances import hits_by_capacity
from radixcache.curve.sample import sample_hits
from radixcache.workload.references import References, read_references
from radixcache.workload.workload import Call

__all__ = ["Curve", "Hits", "exact_curve", "sampled_curve"]


class Hits(Protocol):
    """Hit blocks by capacity, counted or estimated."""

    @property
    def saturation(self) -> int:
        """The smallest capacity in blocks from which on nothing changes."""

    def at(self, capacity: int) -> int:
        """Hit blocks of a cache of `capacity` blocks."""

    def standard_error(self, capacity: int) -> float:
        """Standard error of `at`, in blocks; 0 if it is exact."""


@dataclass(frozen=True, slots=True)
class _ExactHits:
    hits: NDArray[np.int64]

    @property
    def saturation(self) -> int:
        return len(self.hits) - 1

    def at(self, capacity: int) -> int:
        return int(self.hits[min(capacity, len(self.hits) - 1)])

    def standard_error(self, capacity: int) -> float:  # noqa: ARG002 - exact at any
        return 0.0


@dataclass(frozen=True, slots=True)
class Curve:
    """LRU's hits at every capacity, for one block size and one namespace or all of them.

    Attributes:
        namespace: the only one counted, in its own cache; None if all share one cache.
        block_size: tokens a block.
        requests: how many requests were counted.
        prompt_tokens: their prompt tokens, those outside whole blocks included.
        references: whole prompt blocks in all.
        distinct_blocks: how many of them are different; an estimate if sampled.
        hits: hit blocks by capacity.
    """

    namespace: str | None
    block_size: int
    requests: int
    prompt_tokens: int
    references: int
    distinct_blocks: int
    hits: Hits

    def cached_tokens(self, capacity: int) -> int:
        """Prompt tokens reused with room for `capacity` blocks.

        Raises:
            ValueError: if `capacity` is negative.
        """
        if capacity < 0:
            raise ValueError(f"capacity must be at least 0 blocks, got {capacity}")
        return self.hits.at(capacity) * self.block_size

    def hit_rate(self, capacity: int) -> float:
        """Reused over all prompt tokens, 0 to 1; ValueError if `capacity` is negative."""
        return self.cached_tokens(capacity) / self.prompt_tokens if self.prompt_tokens else 0.0

    def standard_error(self, capacity: int) -> float:
        """Standard error of `hit_rate`; 0 if it is exact."""
        error = self.hits.standard_error(capacity) * self.block_size
        return error / self.prompt_tokens if self.prompt_tokens else 0.0

    @property
    def saturation(self) -> int:
        """The smallest capacity in blocks with the hit rate of an unbounded cache."""
        return self.hits.saturation


def exact_curve(
    calls: Iterable[Call], block_size: int, unit_tokens: int = 1, namespace: str | None = None
) -> tuple[Curve, References]:
    """Count hits at every capacity, in one pass; also the block references, for other bounds.

    Args:
        calls: requests in order of arrival.
        block_size: tokens a block, a multiple of `unit_tokens`.
        unit_tokens: tokens a unit of the calls.
        namespace: that of the calls if they all have one, only to be recorded.

    Raises:
        ValueError: naming the block size, if it is below 1 or no multiple.
    """
    tally = _Tally(calls)
    references = read_references(tally, _block_units(block_size, unit_tokens), unit_tokens)
    hits = _ExactHits(hits_by_capacity(references))
    total = len(references.ids), references.num_blocks
    return Curve(namespace, block_size, tally.requests, tally.prompt_tokens, *total, hits), references


def sampled_curve(
    calls: Iterable[Call],
    block_size: int,
    unit_tokens: int = 1,
    namespace: str | None = None,
    *,
    rate: float,
) -> Curve:
    """Estimate hits at every capacity from about `rate` of the blocks; see `radixcache.curve.sample`.

    Raises:
        ValueError: as `exact_curve`, and if `rate` is not above 0 and at most 1 or too small for the log.
    """
    tally = _Tally(calls)
    hits = sample_hits(tally, _block_units(block_size, unit_tokens), unit_tokens, rate)
    total = hits.references, round(hits.distinct_blocks)
    return Curve(namespace, block_size, tally.requests, tally.prompt_tokens, *total, hits)


def _block_units(block_size: int, unit_tokens: int) -> int:
    if block_size < 1:
        raise ValueError(f"block size must be at least 1, got {block_size}")
    if block_size % unit_tokens:
        raise ValueError(
            f"block size must be a multiple of {unit_tokens}, the log's block size, got {block_size}"
        )
    return block_size // unit_tokens


class _Tally:
    """Passes calls on and adds them up."""

    def __init__(self, calls: Iterable[Call]) -> None:
        self._calls = calls
        self.requests = 0
        self.prompt_tokens = 0

    def __iter__(self) -> Iterator[Call]:
        for call in self._calls:
            self.requests += 1
            self.prompt_tokens += call.prompt_tokens
            yield call
