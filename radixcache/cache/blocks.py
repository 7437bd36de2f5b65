"""The block allocator: free list and reference counts.

Rows of block ids are packed like tokens, one little-endian int32 an id: joining the tables of a path,
cutting one and freeing it are memcpy, whatever the number of blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

import numpy as np

BLOCK_BYTES = 4  # of one packed block id
_AHEAD = 4096  # ids packed at a time

Blocks = bytes | bytearray


def first_block(blocks: Blocks) -> int:
    """The first id of a packed row that is not empty."""
    return int.from_bytes(blocks[:BLOCK_BYTES], "little")


def block_ids(blocks: Blocks) -> list[int]:
    """The ids of a packed row."""
    return np.frombuffer(blocks, "<i4").tolist()  # type: ignore[no-any-return]


def pack_blocks(ids: Iterable[int]) -> bytes:
    """A packed row of ids."""
    return np.fromiter(ids, "<i4").tobytes()


class BlockAllocator:
    """A pool of `num_blocks` block ids, each free or owned.

    An owned block has one owner (the tree, or one lease) and perhaps *extra* references: a fork
    that shares it, a copy that still has to read it.  Leases that use a published block do not
    count here: they lock its node in the tree instead, which costs nothing a block.  A block goes
    back to the free list when its last reference is dropped.

    Attributes:
        num_free: blocks that `allocate` can hand out now.
        extra: references to a block beyond its owner's, where there are any.
    """

    __slots__ = ("_free", "_next", "_unused", "_unused_at", "extra", "num_blocks", "num_free")

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = self.num_free = num_blocks
        self.extra: dict[int, int] = {}
        self._free = bytearray()  # given back; the last one is taken first
        self._next = 0  # ids from here on were never given out
        self._unused = b""  # ids from `_unused_at` on, packed ahead
        self._unused_at = 0

    def allocate(self, count: int) -> bytes:
        """Hand out `count` free blocks; the caller has made sure that there are as many."""
        free = self._free
        at = len(free) - count * BLOCK_BYTES
        if count > self.num_free:
            raise AssertionError(f"{count} blocks taken of {self.num_free} free")
        self.num_free -= count
        if at >= 0:
            taken = bytes(free[at:])
            del free[at:]
            return taken
        taken = bytes(free) + self._number(-at // BLOCK_BYTES)
        free.clear()
        return taken

    def _number(self, count: int) -> bytes:
        """The next `count` ids that were never given out."""
        start = (self._next - self._unused_at) * BLOCK_BYTES
        stop = start + count * BLOCK_BYTES
        if stop > len(self._unused):
            self._unused_at = self._next
            self._unused = np.arange(self._next, self._next + max(count, _AHEAD), dtype="<i4").tobytes()
            start, stop = 0, count * BLOCK_BYTES
        self._next += count
        return self._unused[start:stop]

    def share(self, block: int) -> None:
        """Add a reference to an owned block."""
        self.extra[block] = self.extra.get(block, 0) + 1

    def free(self, blocks: Blocks) -> None:
        """Take back blocks whose one reference is dropped; the caller knows that there is no other."""
        self._free += blocks
        self.num_free += len(blocks) // BLOCK_BYTES

    def drop(self, blocks: Blocks) -> None:
        """Drop one reference to each block; those without any left become free."""
        if not self.extra:
            self._free += blocks
            self.num_free += len(blocks) // BLOCK_BYTES
            return
        for at in range(0, len(blocks), BLOCK_BYTES):
            self.drop_one(first_block(blocks[at : at + BLOCK_BYTES]))

    def drop_one(self, block: int) -> bool:
        """Drop one reference to a block; whether its owner's, if any, is all that is left."""
        extra = self.extra
        left = extra.get(block, 0)
        if left > 1:
            extra[block] = left - 1
            return False
        if left:
            del extra[block]
        else:
            self.free(block.to_bytes(BLOCK_BYTES, "little"))
        return True

    @property
    def num_owned(self) -> int:
        """Blocks that were handed out and not given back."""
        return self.num_blocks - self.num_free

    def clear(self, keep: Set[int] = frozenset()) -> None:
        """Every block but those of `keep`, which are owned, is free again."""
        self.extra.clear()
        self._free.clear()
        self._next = self._unused_at = 0
        self._unused = b""
        self.num_free = self.num_blocks - len(keep)
        if keep:
            self._next = self.num_blocks
            self._free += pack_blocks(
                block for block in range(self.num_blocks - 1, -1, -1) if block not in keep
            )

    def free_ids(self) -> list[int]:
        """Every free id, for checks."""
        return [*block_ids(self._free), *range(self._next, self.num_blocks)]
