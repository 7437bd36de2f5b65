"""When blocks are used again, learned from the requests as they come."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, OrderedDict
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from radixcache.cache.eviction.sampling import Sampled

Floats = NDArray[np.float64]

_USES = (1, 2, 3, 4, 5, 7, 10, 14, 20, 28, 40, 56, 80)  # least uses of each class
_LENGTHS = 3  # classes of the length of the request
_FIRST, _LATEST = 64, 256  # requests from one estimate to the next, growing
_FADE = 0.95  # weight of what was learned before the last estimate
_PRIOR = 5.0  # weight in requests of the hazard of all blocks in that of a class of uses
_EVEN = 10.0  # requests that "as likely as the others" weighs in what is found for a length
_SURE = 0.9  # chance of being used yet again, at most, of what was used most
_OLDEST = 1 << 20


def _edges() -> list[int]:
    edges = [0, 1]
    while edges[-1] < _OLDEST:
        edges.append(max(edges[-1] + 1, edges[-1] * 5 // 4))
    return edges


EDGES = _edges()
"""Bounds of the ranges of age in requests, growing by a quarter each."""
NUM_BINS = len(EDGES) - 1
NUM_CLASSES = len(_USES) * _LENGTHS
_STAY = 1 - 1 / np.diff(_USES).astype(np.float64)  # chance that the next use does not lead to the next class
_WIDTHS = np.array([b - a for a, b in pairwise(EDGES)], dtype=np.float64)
_BANDS = [bisect_left(EDGES, age) for age in (0, 16, 128, 1024)]  # bins where coarser ranges of age begin
_BAND_BINS = np.diff([*_BANDS, NUM_BINS])


def age_bin(age: int) -> int:
    """Which of the ranges of age an age in requests falls in."""
    return min(bisect_right(EDGES, age), NUM_BINS) - 1


def class_of(uses: int, blocks: int) -> int:
    """The class of a block used `uses` times, last by a request of `blocks` blocks."""
    length = 0 if blocks <= 4 else 1 if blocks <= 64 else 2
    return (bisect_right(_USES, uses) - 1) * _LENGTHS + length


class ReuseModel:
    """Ranks blocks by the hits they promise for the room they take, by class and age.

    A conversation's next turn does not come at once, and is more likely the more turns there were: the
    chance that a block is used next rises with its age and then falls, and differs by how often it was used
    and how long the request was. For each such class the hazard of reuse by age is estimated from a bounded
    history of sampled blocks, in which those not used again count as long as they are watched (the
    product-limit estimate of E. Kaplan and P. Meier, 1958), fading as the stream goes on. The blocks of a
    request come back together or not at all, so a request counts once, however many of its blocks are seen.

    The rank of a block is the most hits a request that keeping it for any time to come promises (the index
    of J. Gittins, 1979), where a hit counts for those that will follow it.

    Relatives: N. Beckmann, H. Chen and A. Cidon, "LHD: Improving Cache Hit Rate by Maximizing Hit Density",
    NSDI '18; J. Wang and others, "KVCache Cache in the Wild", arXiv 2506.02634, which learns reuse by age
    for each category of requests.

    Attributes:
        now: requests so far.
        rank: `[NUM_CLASSES][NUM_BINS]`, what is lowest leaves first.
        version: how often `rank` was recomputed.

    Args:
        limit: sampled blocks remembered, some 250 bytes each.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # of each digest time, uses, class and weight; oldest first
        self._seen: OrderedDict[int, tuple[int, int, int, float]] = OrderedDict()
        self._again = _nothing()  # [NUM_CLASSES][NUM_BINS], as lists: single cells are faster
        self._gone = _nothing()
        self._due = _FIRST
        self.now = 0
        self.version = 0
        self.rank: list[list[float]] = [[0.0] * NUM_BINS for _ in range(NUM_CLASSES)]

    def request(self, sampled: list[Sampled], blocks: int) -> list[tuple[int, int]]:
        """Learn from a request of `blocks` blocks; returns place and uses of each sampled one."""
        self.now += 1
        now, seen = self.now, self._seen
        weight = 1 / max(1, len(sampled))
        base = class_of(1, blocks)
        uses_at = []
        then, before, uses, again = -1, 0, 1, [0.0]
        entry = first = (now, 1, base, weight)
        at = 0
        for digest, index in sampled:
            known = seen.pop(digest, None)
            if known is None:
                seen[digest] = first
                uses_at.append((index, 1))
                continue
            if known[0] != then or known[1] != before:  # mostly like the block before
                then, before, group, _ = known
                uses = before + 1
                again, at = self._again[group], age_bin(now - then)
                entry = (now, uses, class_of(uses, blocks), weight)
            again[at] += known[3]
            seen[digest] = entry
            uses_at.append((index, uses))
        while len(seen) > self._limit:
            _, (then, _, group, weighed) = seen.popitem(last=False)
            self._gone[group][age_bin(now - then)] += weighed
        if now >= self._due:
            self._due = now + min(max(_FIRST, now // 2), _LATEST)
            self._estimate()
        return uses_at

    def clear(self) -> None:
        """Forget the blocks; what was learned stays."""
        self._seen.clear()

    def _estimate(self) -> None:
        again, gone = np.array(self._again), np.array(self._gone)
        waiting = gone.copy()
        if self._seen:
            counts = Counter(self._seen.values())  # equal for most blocks of a request
            then, _, groups, weights = np.array(list(counts)).T
            bins = np.minimum(np.searchsorted(EDGES, self.now - then, side="right"), NUM_BINS) - 1
            np.add.at(waiting, (groups.astype(np.intp), bins), weights * list(counts.values()))
        # blocks last seen in a bin were at risk for half of it
        at_risk = np.cumsum((again + waiting)[:, ::-1], axis=1)[:, ::-1] - 0.5 * waiting
        hazard = _hazards(*(counts.reshape(len(_USES), _LENGTHS, NUM_BINS) for counts in (again, at_risk)))
        worth = 1 + _hits_to_follow(1 - np.prod(1 - hazard, axis=2))
        oldest = age_bin(self.now) + 1
        index = np.zeros((NUM_CLASSES, NUM_BINS))
        index[:, :oldest] = _index(hazard.reshape(NUM_CLASSES, NUM_BINS)[:, :oldest]) * worth.reshape(-1, 1)
        self.rank = index.tolist()
        self.version += 1
        self._again = (_FADE * again).tolist()
        self._gone = (_FADE * gone).tolist()


def _nothing() -> list[list[float]]:
    return [[0.0] * NUM_BINS for _ in range(NUM_CLASSES)]


def _hazards(again: Floats, risk: Floats) -> Floats:
    """The chance of reuse in each bin, from how many were used again in it and how many might have been.

    All are `[uses, lengths, bins]`. There are too few blocks of many uses to tell their lengths apart: what a
    length changes is estimated once for all of them, as a factor for each of a few ranges of age.
    """
    overall = again.sum((0, 1)) / np.maximum(risk.sum((0, 1)), 1)
    by_uses = (again.sum(1) + _PRIOR * overall) / (risk.sum(1) + _PRIOR)
    found, expected = (
        np.add.reduceat(counts.sum(0), _BANDS, axis=1) for counts in (again, risk * by_uses[:, None])
    )
    factor = (found + _EVEN) / (expected + _EVEN)
    hazard: Floats = by_uses[:, None] * np.repeat(factor, _BAND_BINS, axis=1)
    return np.minimum(hazard, 1.0)


def _hits_to_follow(ever: Floats) -> Floats:
    """From the chance of ever being used again, `[uses, lengths]`, the hits expected after the next one."""
    ever = np.minimum(ever, _SURE)
    after = [ever[-1] / (1 - ever[-1])]  # hits expected of a block of each class, the last class first
    for chance, stay in zip(ever[-2::-1], _STAY[::-1], strict=True):
        after.append(chance * (1 + (1 - stay) * after[-1]) / (1 - chance * stay))
    here = np.stack(after[::-1])
    stays = np.append(_STAY, 1.0)[:, None]
    return np.asarray(stays * here + (1 - stays) * np.append(here[1:], here[-1:], axis=0))


def _index(hazard: Floats) -> Floats:
    """From the chance of reuse in each bin, `[classes, bins]`, the best hits a request from each bin on."""
    best = np.zeros_like(hazard)
    for start in range(hazard.shape[1]):
        ahead = hazard[:, start:]
        alive = np.cumprod(1 - ahead, axis=1)
        alive = np.concatenate([np.ones((len(hazard), 1)), alive[:, :-1]], axis=1)
        hits = np.cumsum(alive * ahead, axis=1)
        time = np.cumsum(alive * (1 - ahead / 2) * _WIDTHS[start : hazard.shape[1]], axis=1)
        best[:, start] = (hits / time).max(axis=1)
    return best
