"""The driver with tiers below the pool: a sink keeps what is evicted, and loads end well or badly."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from radixcache.cache.draining import EvictedBlocks
from radixcache.cache.lease import Lease
from radixcache.cache.loads import BlockLoad, LowerQuery, TierRun
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.errors import OutOfBlocksError
from tests.cache.driver import OPERATIONS, Driver
from tests.cache.model import Slot, snapshot

TIERED_OPERATIONS = (*OPERATIONS, *["evict", "finish_loads", "fail_loads", "drained"] * 3)


class TieredDriver(Driver):
    """Keeps a copy of every block that is offered, and holds some of them until they are drained."""

    def __init__(self, num_blocks: int, block_size: int, policy: str = "lru") -> None:
        self.kept: dict[bytes, list[Slot]] = {}
        self.held: dict[int, list[Slot]] = {}  # by block, what must be in it until it is drained
        self.written: list[int] = []  # blocks that loads of ended leases still write
        self.mood = 0
        super().__init__(num_blocks, block_size, policy)

    def make_cache(self, policy: str) -> PrefixCache:
        return PrefixCache(
            self.num_blocks, self.block_size, policy=policy, clock=lambda: self.now, sink=self, lower=self
        )

    def offer(self, evicted: EvictedBlocks, *, urgent: bool) -> Iterable[int]:
        for digest, block in zip(evicted.digests, evicted.blocks, strict=True):
            self.kept[digest] = self.contents(block)
        if self.mood == 5:
            raise OSError("no room")
        taken = [] if urgent else evicted.blocks[self.mood % 2 :: 1 + self.mood % 3]
        self.held |= {block: self.contents(block) for block in taken}
        return taken

    def reclaim(self, num_blocks: int) -> Iterable[int]:
        given = list(self.held)[: min(num_blocks, self.mood)]
        for block in given:
            del self.held[block]
        return given

    def match(self, query: LowerQuery) -> Iterable[TierRun]:
        for digest in query.digests:
            if digest not in self.kept:
                return
            yield TierRun("memory" if digest[0] % 2 else "disk", query.block_size)

    def contents(self, block: int) -> list[Slot]:
        return [self.memory.slots[block, offset] for offset in range(self.block_size)]

    def state(self) -> object:
        """All but the free blocks, to which reclaimed ones may come though there are too few."""
        _, extra, published, leases, roots, _ = snapshot(self.cache)
        return extra, published, leases, roots

    def step(self, operation: str, tokens: list[int], namespace: str | bytes, pick: int, number: int) -> None:
        self.mood = number
        lease = self.leases[pick % len(self.leases)] if self.leases else None
        if operation == "drained":
            self.drain(pick)
        elif operation == "finish_loads" and lease is not None:
            self.finish_loads(lease, lease.num_tokens if pick > 3 else number)
        elif operation == "fail_loads" and lease is not None:
            self.fail_loads(lease, number, still_writing=pick % 2 == 1)
        elif not (operation == "truncate" and lease is not None and lease.loading):
            super().step(operation, tokens, namespace, pick, number)

    def drain(self, count: int) -> None:
        ended = [*list(self.held)[:count], *self.written[:count]]
        free = self.cache.num_free_blocks
        self.cache.drained(ended)
        assert self.cache.num_free_blocks == free + len(ended)
        for block in ended:
            self.held.pop(block, None)
        del self.written[:count]

    def acquire(
        self,
        tokens: list[int],
        namespace: str | bytes,
        max_cached: int | None = None,
        *,
        recompute_last: bool = True,
    ) -> Lease | None:
        before = self.state()
        in_pool = self.cache.match(tokens, namespace)
        try:
            lease = self.cache.acquire(
                tokens,
                namespace,
                max_cached=max_cached,
                recompute_last=recompute_last,
                load=lambda hit: hit.num_tokens * self.mood // 3,
            )
        except OutOfBlocksError as error:
            assert self.state() == before
            assert error.draining == len(self.held) + len(self.written)  # noqa: PT017 - either outcome may be right
            return None
        most = len(tokens) - recompute_last if max_cached is None else max_cached
        assert lease.num_cached_tokens <= most
        assert sum(lease.misses.values()) == len(tokens) - lease.num_cached_tokens
        assert all(count > 0 for count in lease.misses.values())
        loading = sum(load.num_tokens for load in lease.loads)
        assert lease.num_cached_tokens == lease.num_computed_tokens + loading
        if lease.lower is None:
            assert lease.num_cached_tokens >= min(in_pool, most) // self.block_size * self.block_size
        else:
            assert loading <= lease.lower.num_tokens
            missed = lease.lower.num_tokens - loading
            assert lease.misses.get("load_declined", 0) <= missed
        self.counted += 1
        self.leases.append(lease)
        return lease

    def commit(self, lease: Lease, stop: int) -> None:
        if lease.loading and stop > lease.num_computed_tokens:
            with pytest.raises(ValueError, match="being loaded"):
                lease.commit(stop)
            self.finish_loads(lease, stop)
            return
        super().commit(lease, stop)

    def finish_loads(self, lease: Lease, stop: int) -> None:
        self.memory.copy(lease)
        lease.finish_copies()
        for load in lease.loads:
            if load.start + load.num_tokens <= stop:
                for offset, slot in enumerate(self.kept[load.digest]):
                    self.memory.slots[load.target, offset] = slot
        pending = [load for load in lease.loads if load.start + load.num_tokens > stop]
        lease.finish_loads(stop)
        assert list(lease.loads) == pending

    def fail_loads(self, lease: Lease, stop: int, *, still_writing: bool) -> None:
        failed = [load for load in lease.loads if load.start + load.num_tokens > stop]
        cached = lease.num_cached_tokens
        before = self.state()
        try:
            lease.fail_loads(stop, still_writing=still_writing)
        except OutOfBlocksError:
            assert still_writing
            assert self.state() == before
            return
        assert lease.num_cached_tokens == cached - sum(load.num_tokens for load in failed)
        if still_writing:
            self.abandoned(failed)
        else:
            assert {load.target for load in failed} <= set(lease.fresh_blocks)

    def abandoned(self, loads: Iterable[BlockLoad]) -> None:
        self.written += [load.target for load in loads]

    def release(self, lease: Lease, publish: bool) -> None:
        super().release(lease, publish)
        self.abandoned(lease.loads)

    def evict(self, count: int) -> None:
        free, draining = self.cache.num_free_blocks, self.cache.num_draining_blocks
        gone = self.cache.evict(count)
        now = self.cache.num_free_blocks - free + self.cache.num_draining_blocks - draining
        assert gone == now <= count

    def reset(self) -> None:
        if self.leases:
            super().reset()
        else:
            self.cache.reset()
            assert self.cache.num_free_blocks == self.num_blocks - self.cache.num_draining_blocks

    def sound(self) -> None:
        super().sound()
        assert self.cache.store.draining.blocks == {*self.held, *self.written}
        for block, contents in self.held.items():
            assert self.contents(block) == contents, "a draining block was written"
        loads = [load for lease in self.leases for load in lease.loads]
        stats = self.cache.stats()
        assert stats.cached_tokens >= sum(stats.loaded_tokens.values())
        assert sum(stats.loaded_tokens.values()) >= sum(load.num_tokens for load in loads)

    def finish(self) -> None:
        for lease in list(self.leases):
            self.release(lease, publish=True)
        self.sound()
        self.cache.drained([*self.held, *self.written])
        self.cache.reset()
        assert self.cache.num_free_blocks == self.num_blocks
