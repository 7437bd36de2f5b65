"""Blocks from somebody else's allocator, such as an engine's that keeps the free list of its pool itself."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Protocol

import numpy as np

from radixcache.cache.blocks import BlockAllocator, Blocks, block_ids, pack_blocks
from radixcache.errors import OutOfBlocksError


class BlockSupply(Protocol):
    """An allocator of pool blocks that the cache shares with others.

    It need only know free blocks: the cache counts the references to those it has.
    """

    @property
    def num_free(self) -> int:
        """Blocks that `allocate` can hand out now."""

    def allocate(self, count: int) -> Sequence[int]:
        """Hand out `count` free blocks; called with no more than `num_free`."""

    def free(self, blocks: Sequence[int]) -> None:
        """Take blocks back."""


class SuppliedAllocator(BlockAllocator):
    """A `BlockAllocator` whose free list is somebody else's."""

    __slots__ = ("_owned", "_supply")

    def __init__(self, num_blocks: int, supply: BlockSupply) -> None:
        self.num_blocks = num_blocks
        self.extra = {}
        self._supply = supply
        self._owned = np.zeros(num_blocks, dtype=bool)

    @property
    def num_free(self) -> int:  # type: ignore[override]
        """Blocks that the supply has."""
        return self._supply.num_free

    @property
    def num_owned(self) -> int:
        """Blocks that the cache has."""
        return int(np.count_nonzero(self._owned))

    def allocate(self, count: int) -> bytes:
        """Take `count` blocks from the supply.

        Raises:
            OutOfBlocksError: the supply has fewer than it said.
            ValueError: it gave a block that does not exist or that the cache has already.
        """
        given = list(self._supply.allocate(count)) if count else []
        if len(given) != count:
            self._supply.free(given)
            raise OutOfBlocksError(count, len(given))
        seen: set[int] = set()
        for block in given:
            if not 0 <= block < self.num_blocks or self._owned[block] or block in seen:
                raise ValueError(f"allocator gave block {block!r}, which is out of range or in use already")
            seen.add(block)
        self._owned[given] = True
        return pack_blocks(given)

    def free(self, blocks: Blocks) -> None:
        """Give blocks back to the supply."""
        if blocks:
            ids = block_ids(blocks)
            self._owned[ids] = False
            self._supply.free(ids)

    def drop(self, blocks: Blocks) -> None:
        """Drop one reference to each block; those without any left go back to the supply."""
        if self.extra:
            super().drop(blocks)
        else:
            self.free(blocks)

    def clear(self, keep: Set[int] = frozenset()) -> None:
        """Give back every block but those of `keep`."""
        self.extra.clear()
        given = [block for block in np.flatnonzero(self._owned).tolist() if block not in keep]
        self._owned[given] = False
        self._supply.free(given)

    def free_ids(self) -> list[int]:
        """Every block that the cache does not have, for checks; others may have it."""
        return np.flatnonzero(~self._owned).tolist()
