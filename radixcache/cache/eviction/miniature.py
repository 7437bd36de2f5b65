"""A cache of sampled blocks only, with no blocks in it, to see how a policy would do."""

from __future__ import annotations

from radixcache.cache.blocks import BLOCK_BYTES
from radixcache.cache.eviction.base import EvictionPolicy
from radixcache.cache.eviction.sampling import Sampled
from radixcache.cache.node import Node
from radixcache.tokens import TOKEN_BYTES

_NO_BLOCK = bytes(BLOCK_BYTES)


class _Ghost(Node):
    """One sampled block; the one sampled before it in the same prompts is its parent."""

    __slots__ = ("digest", "following")

    def __init__(self, parent: Node | None, digest: int, edge: bytes, depth: int) -> None:
        super().__init__(parent, edge, _NO_BLOCK, depth, 0)
        self.digest = digest
        self.following = 0  # children; `children` is only there to be true


class Miniature:
    """A policy of the real kind on a tree of sampled blocks.

    Costs about what the policy costs for a node, for each sampled block of a request; memory is some 500
    bytes for each block that fits.
    """

    def __init__(self, policy: EvictionPolicy, block_size: int) -> None:
        self.policy = policy
        self._block_size = block_size
        self._edge = bytes(block_size * TOKEN_BYTES)
        self._root = _Ghost(None, 0, b"", 0)
        self._nodes: dict[int, _Ghost] = {}
        self._clock = 0
        policy.bind(1, block_size)

    def request(self, sampled: list[Sampled], capacity: int) -> int:
        """Serve a request, keep its blocks as the policy says, and return how many were there."""
        nodes = self._nodes
        node, hits = self._root, 0
        for digest, _ in sampled:
            known = nodes.get(digest)
            if known is None:
                break
            node = known
            hits += 1
        new = sampled[hits : max(hits, capacity)]
        node.locks += 1  # keeps all above it as well: they have children
        self._evict(capacity - len(new))
        locked = node
        for digest, index in new:
            child = _Ghost(node, digest, self._edge, index * self._block_size)
            nodes[digest] = child
            node.following += 1
            node.children = [child]
            node = child
        locked.locks -= 1
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
        self._nodes.clear()
        self._root = _Ghost(None, 0, b"", 0)
        self.policy.clear()

    def _evict(self, room: int) -> None:
        while len(self._nodes) > room:
            node = self.policy.pop()
            if node is None:
                return
            assert isinstance(node, _Ghost)
            parent = node.parent
            assert isinstance(parent, _Ghost)
            del self._nodes[node.digest]
            node.parent = None
            self.policy.removed(node)
            parent.last_use = max(parent.last_use, node.last_use)
            parent.uses += node.uses
            parent.following -= 1
            if not parent.following:
                parent.children = None
                if parent.parent is not None and not parent.locks:
                    self.policy.push(parent)
