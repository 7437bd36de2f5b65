"""Our control plane as an index for a benchmark of prefix-cache indexes that times other engines' trees.

The benchmark loads a class from `FILE.py:Class`, makes it with (capacity_tokens, page), has it turn token
lists into its own prompt form untimed, and calls `step` for each request. Unlike a bare tree, ours does the
real allocation of blocks: block tables, reference counts, copies of partly shared blocks.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import Protocol

from radixcache.cache.prefix_cache import PrefixCache
from radixcache.tokens import pack


class Clock(Protocol):
    """Where the benchmark keeps nanoseconds, and how many requests had to evict."""

    match: int
    lock: int
    evict: int
    insert: int
    evictions: int


class Index:
    """PrefixCache without miss reasons, which the other indexes do not give either.

    `acquire` matches, locks, evicts and allocates in one call, so all of that is in `clock.match`, and
    `clock.evict` stays 0. `clock.insert` is `commit`, which publishes; `clock.lock` is `release`.
    """

    explain = False

    def __init__(self, capacity_tokens: int, page: int) -> None:
        self._cache = PrefixCache(capacity_tokens // page, page, explain=self.explain)

    def prepare(self, tokens: list[int]) -> bytes:
        """Packed tokens, as the engine keeps a waiting request's."""
        return pack(tokens)

    def step(self, prompt: bytes, clock: Clock) -> int:
        """One request from lookup to release; the tokens it could reuse."""
        cache = self._cache
        free = cache.num_free_blocks
        begin = perf_counter_ns()
        lease = cache.acquire(prompt)
        acquired = perf_counter_ns()
        clock.evictions += len(lease.fresh_blocks) > free
        hit = lease.num_cached_tokens
        committing = perf_counter_ns()
        lease.commit(lease.num_tokens)
        committed = perf_counter_ns()
        lease.release()
        released = perf_counter_ns()
        clock.match += acquired - begin
        clock.insert += committed - committing
        clock.lock += released - committed
        return hit


class ExplainingIndex(Index):
    """PrefixCache as the engine runs it: every miss gets its reasons."""

    explain = True
