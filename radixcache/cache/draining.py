"""Blocks that nobody uses any more but a transfer: *draining*, neither free nor evictable nor in use.

A block drains while its contents are copied out after its eviction, or while a load that was given up still
writes into it.  The code that runs the transfer says when it has ended (`PrefixCache.drained`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from radixcache.cache.blocks import BlockAllocator, Blocks, block_ids, pack_blocks
from radixcache.cache.namespaces import Namespace

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EvictedBlocks:
    """Consecutive whole blocks of one sequence that have left the tree.

    Attributes:
        namespace: the namespace they were published in.
        parent: digest of the block before the first one; the namespace's own digest at position 0.
        digests: one a block, 16 bytes each, in order of position.
        tokens: the blocks' tokens, packed.
        blocks: the blocks' ids, in the same order.
    """

    namespace: Namespace
    parent: bytes
    digests: tuple[bytes, ...]
    tokens: bytes
    blocks: tuple[int, ...]


class EvictionSink(Protocol):
    """Receives blocks that leave the tree, to keep their contents elsewhere.

    It is called in the middle of the cache's work and must not call the cache.  What it raises is logged and
    counted, and the blocks are free as if it had refused them.
    """

    def offer(self, evicted: EvictedBlocks, *, urgent: bool) -> Iterable[int]:
        """Look at blocks before they are overwritten; returns the ids it takes hold of, perhaps none.

        Blocks that are held drain until `PrefixCache.drained`.  With `urgent` a request takes them over when
        this returns: nothing can be held, the returned ids are ignored, and a copy must be finished, or
        ordered before later writes to the pool (on the same device stream, say).
        """

    def reclaim(self, num_blocks: int) -> Iterable[int]:
        """A request lacks `num_blocks` blocks: give up or finish transfers without waiting for a device.

        Returns the ids of held blocks that are free now, as if by `PrefixCache.drained`; perhaps none.
        """


class Draining:
    """The draining blocks and the sink that holds them.

    Attributes:
        blocks: ids of the draining blocks.
        errors: how often the sink raised, or answered what cannot be.
    """

    def __init__(self, allocator: BlockAllocator, sink: EvictionSink | None) -> None:
        self._allocator = allocator
        self._sink = sink
        self.blocks: set[int] = set()
        self.errors = 0

    @property
    def has_sink(self) -> bool:
        """Whether evicted blocks are offered."""
        return self._sink is not None

    def evicted(self, evicted: EvictedBlocks, packed: Blocks, *, urgent: bool) -> None:
        """Offer blocks that have left the tree, and free those that are not taken."""
        sink = self._sink
        assert sink is not None
        taken = self._ask(lambda: sink.offer(evicted, urgent=urgent), set(evicted.blocks))
        if taken and not urgent:
            self.blocks |= taken
            packed = pack_blocks(block for block in evicted.blocks if block not in taken)
        self._allocator.free(packed)

    def add(self, packed: Blocks) -> None:
        """Let blocks drain that a lease gave up while they were being written."""
        self.blocks.update(block_ids(packed))

    def drained(self, blocks: Iterable[int]) -> None:
        """The transfers of some blocks have ended: they are free.

        Raises:
            ValueError: a block that is not draining, or is named twice; nothing has changed.
        """
        ended = list(blocks)
        for block in ended:
            if block not in self.blocks:
                raise ValueError(f"block {block!r} is not draining")
        if len(set(ended)) < len(ended):
            raise ValueError(f"blocks must be named once each, got {ended}")
        self.blocks.difference_update(ended)
        self._allocator.free(pack_blocks(ended))

    def reclaim(self, num_blocks: int) -> bool:
        """Ask the sink for blocks that a request lacks; whether there are any."""
        sink = self._sink
        if sink is None or not self.blocks:
            return False
        given = self._ask(lambda: sink.reclaim(num_blocks), self.blocks)
        self.drained(given)
        return bool(given)

    def _ask(self, call: Callable[[], Iterable[Any]], known: set[int]) -> set[int]:
        """Block ids that the sink answers, of those it may answer."""
        try:
            answer = set(call())
            if answer <= known:
                return answer
            raise ValueError(
                f"blocks {sorted(answer - known, key=repr)} are not among those it was asked about"
            )
        except Exception:
            self.errors += 1
            _logger.warning("an eviction sink failed; its blocks are freed", exc_info=self.errors == 1)
            return set()
