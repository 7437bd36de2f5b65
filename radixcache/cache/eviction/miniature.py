"""A simulated cache of sampled blocks, to see how a policy would do."""

from __future__ import annotations

from collections.abc import Sequence

from radixcache.cache.eviction.base import EvictionPolicy
from radixcache.cache.eviction.sampling import Sampled
from radixcache.cache.node import Node


class _Ghost(Node):
    """An edge of sampled blocks; blocks between them count towards its length and take no room."""

    __slots__ = ("block_size", "following", "run")

    def __init__(self, parent: Node | None, run: list[Sampled], block_size: int) -> None:
        super().__init__(parent, b"", b"", run[0].place * block_size if run else 0, 0)
        self.run = run
        self.block_size = block_size
        self.following = 0  # children; `children` is only there to be true

    @property
    def num_blocks(self) -> int:
        """Blocks from the first to the last sampled one."""
        return self.run[-1].place + 1 - self.run[0].place

    @property
    def num_tokens(self) -> int:
        """Tokens of these blocks."""
        return self.num_blocks * self.block_size


class Miniature:
    """A policy on a radix tree of sampled blocks that hold nothing.

    The tree grows, splits and shrinks as `RadixTree` does, so that a policy sees the nodes that it would see
    there.  A request costs O(its sampled blocks) dictionary operations and what the policy costs for a node;
    memory is some 200 bytes for each block that fits and 400 bytes a node.
    """

    def __init__(self, policy: EvictionPolicy, block_size: int) -> None:
        self.policy = policy
        self._block_size = block_size
        self._root = _Ghost(None, [], block_size)
        self._owners: dict[int, _Ghost] = {}  # by digest
        self._clock = 0
        policy.bind(1, block_size)

    def __len__(self) -> int:
        return len(self._owners)

    def request(self, sampled: Sequence[Sampled], capacity: int) -> int:
        """Serve a request, keep its blocks as the policy says, and return how many were cached."""
        owners = self._owners
        hits = 0
        for digest, _ in sampled:
            if digest not in owners:
                break
            hits += 1
        node = self._reached(owners[sampled[hits - 1].digest], sampled[hits - 1]) if hits else self._root
        new = list(sampled[hits : max(hits, capacity)])
        node.locks += 1  # protects its ancestors as well: they have children
        self._evict(capacity - len(new))
        node.locks -= 1
        if new:
            node = self._grow(node, new)
        if node is not self._root:
            self._clock += 1
            node.last_use = self._clock
            node.uses += 1
            self.policy.used(node)
            if not node.following:
                self.policy.push(node)
        return hits

    def clear(self) -> None:
        """Drop all blocks."""
        self._owners.clear()
        self._root = _Ghost(None, [], self._block_size)
        self.policy.clear()

    def _reached(self, node: _Ghost, last: Sampled) -> _Ghost:
        """The node that ends with block `last` of `node`, split off if need be."""
        run = node.run
        if run[-1].digest == last.digest:
            return node
        count = next(at for at, block in enumerate(run, 1) if block.digest == last.digest)
        upper = _Ghost(node.parent, run[:count], self._block_size)
        upper.following, upper.children = 1, [node]
        node.parent = upper
        node.run = run[count:]
        node.depth = node.run[0].place * self._block_size
        for digest, _ in upper.run:
            self._owners[digest] = upper
        self.policy.split(upper, node)
        return upper

    def _grow(self, node: _Ghost, new: list[Sampled]) -> _Ghost:
        if node.following or node is self._root:
            parent = node
            node = _Ghost(parent, new, self._block_size)
            parent.following += 1
            parent.children = [node]
        else:
            node.run += new
        for digest, _ in new:
            self._owners[digest] = node
        return node

    def _evict(self, room: int) -> None:
        while (excess := len(self._owners) - room) > 0:
            node = self.policy.pop()
            if node is None:
                return
            assert isinstance(node, _Ghost)
            self._shrink(node, excess)

    def _shrink(self, node: _Ghost, count: int) -> None:
        """Drop up to `count` blocks from the tail of a leaf."""
        run = node.run
        least = run[-1].place + 1 - self.policy.max_blocks(node)
        while run and count and run[-1].place >= least:
            del self._owners[run.pop().digest]
            count -= 1
        if run:
            self.policy.push(node)
            return
        parent = node.parent
        assert isinstance(parent, _Ghost)
        node.parent = None
        self.policy.removed(node)
        parent.last_use = max(parent.last_use, node.last_use)
        parent.uses += node.uses
        parent.following -= 1
        if not parent.following:
            parent.children = None
            if parent is not self._root and not parent.locks:
                self.policy.push(parent)
