"""Which nodes and blocks of the trees are in use, and so cannot be evicted."""

from __future__ import annotations

from radixcache.blocks import BLOCK_BYTES, Blocks, first_block
from radixcache.forest import Forest
from radixcache.node import Node


class UsedForest(Forest):
    """Trees whose nodes leases lock, and whose blocks copies and forks hold.

    Taking and giving back a lock stops at the first ancestor that is locked otherwise.
    """

    def lock(self, node: Node) -> None:
        """A lease ends at `node` now: neither it nor an ancestor can be evicted."""
        at: Node | None = node
        while at is not None:
            at.locks += 1
            if at.locks > 1:
                return
            self.num_evictable -= self.contribution(at) if self.held else len(at.blocks) // BLOCK_BYTES
            at = at.parent

    def unlock(self, node: Node) -> None:
        """Take back one `lock`."""
        at: Node | None = node
        while at is not None:
            at.locks -= 1
            if at.locks:
                return
            self.num_evictable += self.contribution(at) if self.held else len(at.blocks) // BLOCK_BYTES
            parent = at.parent
            if at.children is None:
                if parent is None:
                    self.drop_if_empty(at)
                else:
                    self.queue.push(at)
            at = parent

    def hold(self, node: Node) -> int:
        """Keep the first block of `node` until it is let go; returns the block."""
        block = first_block(node.blocks)
        self.allocator.share(block)
        if block not in self.held:
            self.held[block] = node
            if not node.locks:
                self.num_evictable -= 1
        return block

    def let_go(self, block: int) -> None:
        """Drop one reference to a block that the tree may own, too."""
        if self.allocator.drop_one(block) and block in self.held:
            node = self.held.pop(block)
            if not node.locks:
                self.num_evictable += 1
                if node.children is None:
                    self.queue.push(node)

    def drop_private(self, blocks: Blocks) -> None:
        """Drop one reference to each block of a lease past what it has published.

        Its tail may be shared with a fork that has published it.
        """
        if self.held:
            for at in range(0, len(blocks), BLOCK_BYTES):
                self.let_go(first_block(blocks[at : at + BLOCK_BYTES]))
        else:
            self.allocator.drop(blocks)

    def touch(self, node: Node) -> None:
        """A lease that ended at `node` was released.

        Ancestors are not visited: what they were used for is known from their descendants, and
        is handed up when those leave (`_unlink`), before it can matter.
        """
        if node.parent is None:
            return
        self.clock += 1
        node.last_use = self.clock
        node.uses += 1
        self.queue.policy.used(node)
