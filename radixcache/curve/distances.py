"""LRU stack distances of a log's block references, for every capacity at once.

Mattson et al. (1970) showed that one pass gives LRU's hits at every capacity: keep blocks in a stack, most
recently used on top, and a reference hits in every cache at least as large as its block's position. Counting
that position with a tree over reference times is Bennett and Kruskal's (1975), later Olken's (1981); Almasi,
Cascaval and Padua (2002) count the holes that later references left instead of the blocks that stayed.

Here references are paths in a prefix tree. A request moves its blocks to the top of the stack head last, so
tails are older than heads, are evicted before them, and a cache of any capacity is closed under prefixes.
What a request moved there lies together, and later requests take it away from its head downwards. So the
hit part of a prompt falls into a few runs, each of blocks last touched by one earlier request (its owner),
and the blocks of a run have consecutive positions. Going down a path, owners change as often as preferred
children do in a link-cut tree (Sleator and Tarjan 1983): O(log requests) times a request, amortised. A
request later than the owner still has on the stack what no run took from it, which makes counting the
holes a weighted count of inversions over runs; a merge sort gives it, level by level in numpy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from radixcache.workload.references import References

__all__ = ["hits_by_capacity"]

_Ints = NDArray[np.int64]


def hits_by_capacity(references: References) -> _Ints:
    """How many references hit in an LRU cache of c blocks, for c = 0, 1, 2, ...

    The result is int64 and ends at the capacity from which on nothing changes. A prompt longer than the
    cache leaves its first c blocks there. O(n log n) for n references; some 40 bytes a reference.
    """
    above, lengths = _runs(references)
    if not len(above):
        return np.zeros(1, dtype=np.int64)
    first, last = above + 1, above + lengths
    size = int(last.max()) + 1
    at_distance = np.bincount(first, minlength=size + 1) - np.bincount(last + 1, minlength=size + 1)
    hits: _Ints = np.cumsum(np.cumsum(at_distance[:size]))
    return hits


def _runs(references: References) -> tuple[_Ints, _Ints]:
    """For each run of hit references: the blocks above it on the stack, and its length."""
    ends = references.ends
    starts = np.concatenate(([0], ends[:-1])) if len(ends) else ends
    owners = _owners(references.ids, starts, ends)
    begins = np.empty(len(owners), dtype=bool)
    begins[:1] = True
    np.not_equal(owners[1:], owners[:-1], out=begins[1:])
    begins[starts[starts < ends]] = True
    places = np.flatnonzero(begins)
    lengths = np.diff(places, append=len(owners))
    hit = owners[places] >= 0
    places, lengths = places[hit], lengths[hit]
    owner = owners[places].astype(np.int64)
    start = starts[np.searchsorted(ends, places, side="right")]
    taken = _weight_of_greater_before(owner, lengths)
    # `taken` includes the runs further up the same prompt, which lie at the front of it: add them again.
    return (start - ends[owner] - taken) + (places - start), lengths


def _owners(ids: NDArray[np.int32], starts: _Ints, ends: _Ints) -> NDArray[np.int32]:
    """The request that touched each reference's block last, -1 if none did."""
    requests = np.repeat(np.arange(len(ends), dtype=np.int32), ends - starts)
    order = np.argsort(ids, kind="stable")
    again = ids[order]
    repeated = again[1:] == again[:-1]
    del again
    owners = np.full(len(ids), -1, dtype=np.int32)
    owners[order[1:][repeated]] = requests[order[:-1][repeated]]
    return owners


def _weight_of_greater_before(keys: _Ints, weights: _Ints) -> _Ints:
    """For each item the summed weight of the items before it whose key (at least 0) is greater.

    Merge sort from the top down: items are ordered by falling key within stretches of time, and stretches
    are halved until nothing is left to compare; an item of a later half collects the weight of those of the
    earlier half that its key order puts in front of it.
    """
    count = len(keys)
    size = 1 << max(0, count - 1).bit_length()
    padded = np.full(size, -1, dtype=np.int64)
    padded[:count] = keys
    weight = np.zeros(size, dtype=np.int64)
    weight[:count] = weights
    total = np.zeros(size, dtype=np.int64)
    times = np.argsort(padded, kind="stable")[::-1]
    half = size // 2
    while half:
        later = (times & half) != 0
        collected = np.cumsum(np.where(later, 0, weight[times]).reshape(-1, 2 * half), axis=1).ravel()
        total[times[later]] += collected[later]
        halves = times[~later].reshape(-1, half), times[later].reshape(-1, half)
        times = np.concatenate(halves, axis=1).ravel()
        half //= 2
    return total[:count]
