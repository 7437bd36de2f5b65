"""Who owns which block of the pool: the free list and the references."""

from __future__ import annotations

from collections.abc import Sequence


class BlockAllocator:
    """A pool of `num_blocks` block ids, each free or owned.

    An owned block has one owner (the tree, or one lease) and perhaps *extra* references: a fork
    that shares it, a copy that still has to read it.  Leases that use a published block do not
    count here: they lock its node in the tree instead, which costs nothing a block.  A block goes
    back to the free list when its last reference is dropped.
    """

    __slots__ = ("_free", "_next", "extra", "num_blocks")

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self.extra: dict[int, int] = {}  # block -> references beyond its owner's
        self._free: list[int] = []  # given back; the last one is taken first
        self._next = 0  # ids from here on were never given out

    @property
    def num_free(self) -> int:
        """Blocks that `take` can hand out now."""
        return len(self._free) + self.num_blocks - self._next

    def take(self, count: int) -> list[int]:
        """Hand out `count` free blocks; the caller has made sure that there are as many."""
        free = self._free
        recycled = len(free)
        if count <= recycled:
            if count == 1:
                return [free.pop()]
            taken = free[recycled - count :]
            del free[recycled - count :]
            return taken
        start, self._next = self._next, self._next + count - recycled
        if self._next > self.num_blocks:
            self._next = start
            raise AssertionError(f"{count} blocks taken of {self.num_free} free")
        taken = [*free, *range(start, self._next)]
        free.clear()
        return taken

    def share(self, block: int) -> None:
        """Add a reference to an owned block."""
        self.extra[block] = self.extra.get(block, 0) + 1

    def free(self, blocks: Sequence[int]) -> None:
        """Take back blocks whose one reference is dropped; the caller knows that there is no other."""
        self._free.extend(blocks)

    def drop(self, blocks: Sequence[int]) -> None:
        """Drop one reference to each block; those without any left become free."""
        if self.extra.keys().isdisjoint(blocks):
            self._free.extend(blocks)
            return
        for block in blocks:
            left = self.extra.get(block, 0)
            if left > 1:
                self.extra[block] = left - 1
            elif left:
                del self.extra[block]
            else:
                self._free.append(block)

    def clear(self) -> None:
        """Every block is free again."""
        self.extra.clear()
        self._free.clear()
        self._next = 0

    def free_ids(self) -> list[int]:
        """Every free id, for checks."""
        return [*self._free, *range(self._next, self.num_blocks)]
