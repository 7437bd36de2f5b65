"""The most hits that any eviction policy could get, from knowing the future."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

__all__ = ["clairvoyant_hits", "clairvoyant_hits_per_call"]


def clairvoyant_hits(references: Sequence[Sequence[int]], capacity_blocks: int) -> int:
    """Block hits of all calls together: see `clairvoyant_hits_per_call`."""
    return sum(clairvoyant_hits_per_call(references, capacity_blocks))


def clairvoyant_hits_per_call(references: Sequence[Sequence[int]], capacity_blocks: int) -> list[int]:
    """How many leading blocks of each call a cache finds that keeps what is used again soonest.

    Belady's rule (L. A. Belady, "A study of replacement algorithms for a virtual-storage computer", IBM
    Systems Journal 5(2), 1966) with free bypass: between calls at most `capacity_blocks` blocks are kept, out
    of those kept before and those of the call; a call's own blocks need not be kept at all. Keeping a block
    until its next reference takes one place for an interval of calls, so this is the largest set of intervals
    of which no more than `capacity_blocks` overlap, and dropping whichever ends last finds it. A block's
    parent comes earlier in the same calls, so it is never dropped before the block: what is kept is always
    closed under prefixes, and the bound holds for prefix caches without being loosened by it.

    A real cache holds a call's blocks while it computes them, so it may stay below this at any policy.

    Takes O(n log n) for n references, and some 80 bytes a reference.

    Args:
        references: for each call its block ids, head first, each at most once a call (`block_references`).
        capacity_blocks: blocks the cache holds.

    Raises:
        ValueError: a capacity below 1.
    """
    if capacity_blocks < 1:
        raise ValueError(f"capacity must be at least 1 block, got {capacity_blocks}")
    following = _next_references(references)
    count = len(following)
    kept = bytearray(count)  # by place in the stream: the reference there will be a hit
    soonest: list[int] = []  # heap of -place; places gone by sink below all others and never come up
    size = start = 0
    hits = []
    for blocks in references:
        stop = start + len(blocks)
        found = kept.count(1, start, stop)
        hits.append(found)
        size -= found
        for place in following[start:stop]:
            if place < count:
                heapq.heappush(soonest, -place)
                kept[place] = 1
                size += 1
        while size > capacity_blocks:
            kept[-heapq.heappop(soonest)] = 0
            size -= 1
        start = stop
    return hits


def _next_references(references: Sequence[Sequence[int]]) -> list[int]:
    """For each place in the stream the next place of the same block, or the stream's length."""
    parts = [np.asarray(blocks, dtype=np.int64) for blocks in references]
    ids = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
    order = np.argsort(ids, kind="stable")
    again = ids[order[1:]] == ids[order[:-1]]
    following = np.full(len(ids), len(ids), dtype=np.int64)
    following[order[:-1][again]] = order[1:][again]
    return following.tolist()
