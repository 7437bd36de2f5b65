"""A naive data plane and naive answers, to hold the cache against."""

from __future__ import annotations

from collections.abc import Sequence

from radixcache.cache.blocks import block_ids
from radixcache.cache.check import check_invariants, nodes
from radixcache.cache.lease import Lease
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.tokens import unpack
from tests.naive import lcp

Slot = tuple[object, tuple[int, ...]] | None


class Memory:
    """KV as an engine would write it: each slot holds its namespace and every token up to it.

    That is what KV depends on, so a slot read in place of another is noticed.
    """

    def __init__(self, cache: PrefixCache) -> None:
        self.cache = cache
        self.slots: dict[tuple[int, int], Slot] = {}

    def value(self, lease: Lease, tokens: list[int], position: int) -> Slot:
        return (lease.namespace, tuple(tokens[: position + 1]))

    def copy(self, lease: Lease) -> None:
        """Do the copies that a lease asks for."""
        for block in lease.fresh_blocks:
            for offset in range(self.cache.block_size):
                self.slots[block, offset] = None
        for source, target, count in lease.copies:
            for offset in range(count):
                self.slots[target, offset] = self.slots[source, offset]

    def compute(self, lease: Lease, stop: int) -> None:
        """Compute the lease's tokens up to `stop`, after its copies, writing only what it may."""
        self.copy(lease)
        size, tokens = self.cache.block_size, unpack(lease.tokens)
        shared = self.referenced_by_others(lease)
        for position in range(lease.num_computed_tokens, stop):
            block = lease.block_table[position // size]
            assert block not in shared, f"lease writes block {block}, which others reference"
            self.slots[block, position % size] = self.value(lease, tokens, position)

    def referenced_by_others(self, lease: Lease) -> set[int]:
        found = {block for _, _, node in nodes(self.cache) for block in block_ids(node.blocks)}
        for group in self.cache.store.live.values():
            for other in group:
                if other is not lease:
                    found.update(other.block_table)
                    found.update(copy.source for copy in other.copies)
        return found

    def check(self, lease: Lease, copies_done: bool = True) -> None:
        """What the lease counts as computed is in its blocks."""
        size, tokens = self.cache.block_size, unpack(lease.tokens)
        targets = {copy.target: copy.source for copy in lease.copies}
        for position in range(lease.num_computed_tokens):
            block = lease.block_table[position // size]
            block = targets.get(block, block)
            assert self.slots[block, position % size] == self.value(lease, tokens, position)

    def check_all(self) -> None:
        """Every live lease and every published block holds what it should; the structure is sound."""
        check_invariants(self.cache)
        for group in self.cache.store.live.values():
            for lease in group:
                self.check(lease)
        size = self.cache.block_size
        for namespace, packed, node in nodes(self.cache):
            tokens = unpack(packed)
            for position in range(node.depth, len(tokens)):
                block = block_ids(node.blocks)[(position - node.depth) // size]
                assert self.slots[block, position % size] == (namespace, tuple(tokens[: position + 1]))


def resident(cache: PrefixCache, namespace: object) -> list[list[int]]:
    """Every published sequence of a namespace, from the root to each node."""
    return [unpack(packed) for known, packed, _ in nodes(cache) if known == namespace]


def reusable(
    cache: PrefixCache, tokens: Sequence[int], namespace: object, *, recompute_last: bool = True
) -> int:
    """What `acquire` should reuse: the longest common prefix with anything published, by brute force."""
    best = max((lcp(tokens, known) for known in resident(cache, namespace)), default=0)
    return min(best, len(tokens) - recompute_last)


def held_share(cache: PrefixCache) -> float:
    """Share of the room in used blocks that holds tokens, counted block by block."""
    size = cache.block_size
    held: dict[int, int] = {}
    for group in cache.store.live.values():
        for lease in group:
            held.update({copy.source: size for copy in lease.copies})
    for group in cache.store.live.values():
        for lease in group:
            held.update(lease.private_blocks())
    for _, _, node in nodes(cache):
        for index, block in enumerate(block_ids(node.blocks)):
            held[block] = min(size, node.num_tokens - index * size)
    return sum(held.values()) / (len(held) * size) if held else 1.0


def snapshot(cache: PrefixCache) -> tuple[object, ...]:
    """Everything that a failed call must leave as it was."""
    return (
        sorted(cache.store.allocator.free_ids()),
        dict(cache.store.allocator.extra),
        sorted(
            (str(name), packed, node.blocks, node.locks, node.last_use, node.uses)
            for name, packed, node in nodes(cache)
        ),
        {
            id(lease): (
                lease.tokens,
                tuple(lease.block_table),
                tuple(lease.copies),
                lease.num_computed_tokens,
            )
            for group in cache.store.live.values()
            for lease in group
        },
        sorted(map(str, cache.store.tree.roots)),
        cache.stats(),
    )
