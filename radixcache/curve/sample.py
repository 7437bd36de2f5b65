"""LRU's hits at every capacity from a sample of the blocks, for logs too big to hold.

Spatial sampling as in SHARDS (Waldspurger et al. 2015): a block is looked at if its digest is small enough,
so either all references to it are kept or none. The digest hashed is the chained one, which names a block
and everything before it. What is left of each prompt is then a path of a smaller tree: a sampled block's
ancestors are the same in every prompt that holds it, sampled ones included. Hence prefixes stay closed, tails
stay older than heads, and the exact algorithm runs on the sample unchanged; of the blocks above a reference
on the stack it sees a known share, so distances only need scaling. Sampling requests or sessions instead
would change how often a shared prefix comes back, and with it what distances mean.

Few blocks are referenced very often (a shared system prompt), and whether one of them is in the sample sways
the number of sampled references; SHARDS corrects the total afterwards. Here misses are counted instead,
which such blocks hardly have, per different block: `misses(c) = D * sampled misses(c * d / D) / d` for `d`
sampled of `D` different blocks. `D` is known from linear counting (Whang et al. 1990), all references are
counted, and the result is exact up to that at both ends: every block misses once, and no hit is lost in an
unbounded cache. The standard error is a delete-a-group jackknife over groups of blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radixcache.curve.distances import hits_by_capacity
from radixcache.workload.references import References, block_digests, dense_ids
from radixcache.workload.workload import Call

__all__ = ["SampledHits", "sample_hits"]

_GROUPS = 16
_COUNTER_BITS = 25
"""Linear counting with 2^25 bytes: within 0.1 % up to 10 million blocks, within 1 % up to 200 million."""


@dataclass(frozen=True, slots=True)
class SampledHits:
    """Hits estimated from a sample.

    Attributes:
        references: block references of the whole log, counted.
        distinct_blocks: different blocks of the whole log, by linear counting.
        sampled_references: how many of the references were looked at.
        whole: the sample.
        without_group: the sample without each of its groups of blocks in turn.
    """

    references: int
    distinct_blocks: float
    sampled_references: int
    whole: _Sample
    without_group: tuple[_Sample, ...]

    @property
    def saturation(self) -> int:
        """The capacity in blocks from which on nothing changes, to within a sampled block."""
        return self.whole.saturation(self.distinct_blocks)

    def at(self, capacity: int) -> int:
        """Hit blocks of a cache of `capacity` blocks, estimated."""
        misses = self.whole.misses(capacity, self.distinct_blocks)
        return min(self.references, max(0, round(self.references - misses)))

    def standard_error(self, capacity: int) -> float:
        """Standard error of `at`, in blocks."""
        estimates = np.array([part.misses(capacity, self.distinct_blocks) for part in self.without_group])
        spread = float(((estimates - estimates.mean()) ** 2).sum())
        return math.sqrt(spread * (len(estimates) - 1) / len(estimates))


@dataclass(frozen=True, slots=True)
class _Sample:
    """The stack distances of some blocks among themselves: how many there are, references, hits."""

    blocks: int
    references: int
    hits: NDArray[np.int64]

    @classmethod
    def of(cls, digests: NDArray[np.uint64], ends: NDArray[np.int64]) -> _Sample:
        references = References(dense_ids(digests), ends)
        return cls(references.num_blocks, len(digests), hits_by_capacity(references))

    def misses(self, capacity: int, distinct_blocks: float) -> float:
        """Misses of the whole log: the sampled block itself is one of those that need room, unscaled."""
        rate = self.blocks / distinct_blocks
        place = max(0.0, (capacity - 1) * rate + 1) if capacity else 0.0
        return (self.references - float(np.interp(place, np.arange(len(self.hits)), self.hits))) / rate

    def saturation(self, distinct_blocks: float) -> int:
        last = len(self.hits) - 1
        return math.ceil((last - 1) * distinct_blocks / self.blocks) + 1 if last else 0


def sample_hits(calls: Iterable[Call], block_units: int, unit_tokens: int, rate: float) -> SampledHits:
    """Estimate hits from about `rate` of the blocks, in one pass; memory grows with the sample only.

    Raises:
        ValueError: `rate` is not above 0 and at most 1, or too few blocks are in the sample; and as
            `references.block_digests`.
    """
    if not 0 < rate <= 1:
        raise ValueError(f"sample must be above 0 and at most 1, got {rate:g}")
    below = np.uint64(min(2**64 - 1, int(rate * 2**64)))
    seen = np.zeros(1 << _COUNTER_BITS, dtype=bool)
    shift = np.uint64(64 - _COUNTER_BITS)
    kept: list[NDArray[np.uint64]] = []
    counts: list[int] = []
    references = 0
    for found in block_digests(calls, block_units, unit_tokens):
        digests = np.frombuffer(found, dtype=np.uint64)
        references += len(digests)
        seen[digests >> shift] = True
        sampled = digests[digests <= below]
        counts.append(len(sampled))
        if len(sampled):
            kept.append(sampled)
    digests = np.concatenate(kept) if kept else np.empty(0, dtype=np.uint64)
    lengths = np.array(counts, dtype=np.int64)
    ends: NDArray[np.int64] = np.cumsum(lengths)
    groups = digests % np.uint64(_GROUPS)
    if len(np.unique(groups)) < _GROUPS:
        raise ValueError(f"sample is {rate:g}, too little for {references:,} blocks; take a larger share")
    owner = np.repeat(np.arange(len(lengths)), lengths)
    parts = []
    for group in range(_GROUPS):
        stays = groups != group
        parts.append(_Sample.of(digests[stays], np.cumsum(np.bincount(owner[stays], minlength=len(lengths)))))
    return SampledHits(
        references=references,
        distinct_blocks=_linear_count(int(np.count_nonzero(seen)), len(seen)),
        sampled_references=len(digests),
        whole=_Sample.of(digests, ends),
        without_group=tuple(parts),
    )


def _linear_count(taken: int, places: int) -> float:
    """How many different things hashed into `taken` of `places`."""
    return places * math.log(places / max(1, places - taken))
