"""One random operation after another on a cache, each checked against the naive model."""

from __future__ import annotations

import pytest

from radixcache.cache.blocks import block_ids
from radixcache.cache.check import nodes
from radixcache.cache.eviction import Pin, Retention
from radixcache.cache.lease import Lease
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.errors import CacheInUseError, OutOfBlocksError
from radixcache.tokens import unpack
from tests.cache.model import Memory, held_share, reusable, snapshot
from tests.naive import lcp

OPERATIONS = (
    *["serve", "acquire", "commit", "release"] * 4,
    *["extend", "fork", "truncate"] * 3,
    *["evict", "finish_copies", "retain", "pin", "unpin", "wait", "reset"],
)


class Driver:
    """Leases come and go in a pool that is too small for all of them."""

    def __init__(self, num_blocks: int, block_size: int, policy: str = "lru") -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.now = 0.0
        self.cache = self.make_cache(policy)
        self.memory = Memory(self.cache)
        self.leases: list[Lease] = []
        self.pins: list[Pin] = []
        self.committed: dict[object, list[list[int]]] = {}  # by namespace, evicted or not
        self.counted = 0

    def make_cache(self, policy: str) -> PrefixCache:
        return PrefixCache(self.num_blocks, self.block_size, policy=policy, clock=lambda: self.now)

    def state(self) -> object:
        """What a call that finds no room must leave as it was."""
        return snapshot(self.cache)

    def step(self, operation: str, tokens: list[int], namespace: str | bytes, pick: int, number: int) -> None:
        cache = self.cache
        lease = self.leases[pick % len(self.leases)] if self.leases else None
        if operation == "serve":
            if served := self.acquire(tokens, namespace):
                self.commit(served, served.num_tokens)
                self.extend(served, [pick % 2] * number)
                self.commit(served, served.num_tokens)
                self.release(served, publish=True)
        elif operation == "acquire":
            limit = None if number > 3 else 2 * number
            self.acquire(tokens, namespace, limit, recompute_last=pick > 2)
        elif operation == "evict":
            self.evict(number)
        elif operation == "pin":
            self.pins.append(cache.pin(tokens, namespace))
        elif operation == "retain":
            ranges = [
                Retention(0, number + 1, pick - 3, number % 3 or None),
                Retention(number + 1, None, 3 - pick),
            ]
            self.pins += cache.retain(tokens, ranges, namespace)
        elif operation == "unpin" and self.pins:
            cache.unpin(self.pins[pick % len(self.pins)])
        elif operation == "wait":
            self.now += 1
        elif operation == "reset":
            self.reset()
        elif lease is not None:
            if operation == "commit":
                pending = lease.num_tokens - lease.num_computed_tokens
                self.commit(lease, lease.num_tokens - pending * number // 8)
            elif operation == "extend":
                self.extend(lease, tokens[: number + 1])
            elif operation == "truncate":
                pending = lease.num_tokens - lease.num_computed_tokens
                self.truncate(lease, lease.num_tokens - pending * number // 6)
            elif operation == "fork":
                self.fork(lease)
            elif operation == "finish_copies":
                self.memory.copy(lease)
                lease.finish_copies()
            elif operation == "release":
                self.release(lease, publish=number > 0)

    def acquire(
        self,
        tokens: list[int],
        namespace: str | bytes,
        max_cached: int | None = None,
        *,
        recompute_last: bool = True,
    ) -> Lease | None:
        cache, size = self.cache, self.block_size
        before = self.state()
        expected = reusable(cache, tokens, namespace, recompute_last=recompute_last)
        assert cache.match(tokens, namespace) == min(expected, len(tokens) - 1)
        if max_cached is not None:
            expected = min(expected, max_cached)
        matched = self.matching_blocks(tokens, namespace, expected)
        room = cache.num_blocks - len(self.protected() | matched)
        needed = -(-len(tokens) // size) - len(matched)
        try:
            lease = cache.acquire(tokens, namespace, max_cached=max_cached, recompute_last=recompute_last)
        except OutOfBlocksError as error:
            assert needed > room, "a prompt that fits was refused"
            assert (error.needed, error.available) == (needed, room)  # noqa: PT017 - either outcome may be right
            assert self.state() == before
            return None
        assert needed <= room, "a prompt was served in blocks that were not there"
        if lease.num_cached_tokens != expected:  # only for want of a block to copy to
            assert lease.num_cached_tokens == len(matched) * size
            assert needed == room
        assert matched <= set(lease.block_table), "its own hits were evicted"
        earlier = [lcp(tokens, known) for known in self.committed.get(namespace, [])]
        assert lease.num_cached_tokens <= max(earlier, default=0)
        assert sum(lease.misses.values()) == len(tokens) - lease.num_cached_tokens
        assert all(count > 0 for count in lease.misses.values())
        assert lease.diverged_at is None or 0 < lease.diverged_at < len(tokens)
        self.counted += 1
        self.leases.append(lease)
        return lease

    def matching_blocks(self, tokens: list[int], namespace: object, cached: int) -> set[int]:
        whole = cached // self.block_size * self.block_size
        if not whole:
            return set()
        for known, packed, node in nodes(self.cache):
            if known == namespace and lcp(unpack(packed), tokens) >= whole:
                blocks = [block for at in self.cache.store.tree.path(node) for block in block_ids(at.blocks)]
                return set(blocks[: whole // self.block_size])
        raise AssertionError("no path has what is cached")

    def protected(self) -> set[int]:
        found = set()
        for lease in self.leases:
            found.update(lease.block_table)
            found.update(copy.source for copy in lease.copies)
        return found

    def extend(self, lease: Lease, tokens: list[int]) -> None:
        before, expected = self.state(), unpack(lease.tokens) + tokens
        try:
            lease.extend(tokens)
        except OutOfBlocksError:
            assert self.state() == before
        else:
            assert unpack(lease.tokens) == expected
            assert lease.num_tokens == len(expected)

    def truncate(self, lease: Lease, stop: int) -> None:
        tokens, held = unpack(lease.tokens), list(lease.block_table)
        lease.truncate(stop)
        assert unpack(lease.tokens) == tokens[:stop]
        assert lease.num_tokens == stop
        assert lease.block_table == held[: -(-stop // self.block_size)]
        assert set(lease.fresh_blocks) <= set(lease.block_table)
        assert all(copy.target in lease.block_table for copy in lease.copies)

    def commit(self, lease: Lease, stop: int) -> None:
        self.memory.compute(lease, stop)
        lease.commit(stop)
        assert lease.num_computed_tokens == stop
        assert not lease.copies
        assert not lease.fresh_blocks
        self.committed.setdefault(lease.namespace, []).append(unpack(lease.tokens)[:stop])

    def fork(self, lease: Lease) -> None:
        before = self.state()
        try:
            twin = lease.fork()
        except OutOfBlocksError:
            assert self.state() == before
            return
        assert twin.tokens == lease.tokens
        self.leases.append(twin)

    def release(self, lease: Lease, publish: bool) -> None:
        lease.release(publish=publish)
        lease.release()
        self.leases.remove(lease)

    def evict(self, count: int) -> None:
        free = self.cache.num_free_blocks
        freed = self.cache.evict(count)
        assert freed <= count
        assert self.cache.num_free_blocks == free + freed
        if not self.cache.store.queue.pinned():
            assert freed == min(count, freed + self.cache.num_evictable_blocks)

    def reset(self) -> None:
        if self.leases:
            before = self.state()
            with pytest.raises(CacheInUseError):
                self.cache.reset()
            assert self.state() == before
        else:
            self.cache.reset()
            self.committed.clear()
            assert self.cache.num_free_blocks == self.num_blocks

    def sound(self) -> None:
        self.memory.check_all()
        stats = self.cache.stats()
        assert stats.requests == self.counted
        assert stats.prompt_tokens == stats.cached_tokens + sum(stats.missed_tokens.values())
        assert stats.leases == len(self.leases)
        assert stats.block_waste == pytest.approx(1 - held_share(self.cache))
        assert self.cache.num_protected_blocks == len(self.protected())

    def finish(self) -> None:
        for lease in self.leases:
            lease.release()
        self.memory.check_all()
        self.cache.reset()
        assert self.cache.num_free_blocks == self.num_blocks
