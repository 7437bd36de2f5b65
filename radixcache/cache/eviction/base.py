"""The interface of eviction policies, and the lazily kept heap that most of them need."""

from __future__ import annotations

import heapq
import sys
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from radixcache.cache.namespaces import Namespace
    from radixcache.cache.node import Node

Buffer = bytes | bytearray


class EvictionPolicy(ABC):
    """Orders the candidates: leaves of the tree that no lease uses.

    The tree pushes a node when it becomes a candidate, and pops when it needs blocks.  It takes
    the victim's blocks from the tail and pushes it again if any are left; a parent is pushed when
    its last child is gone.  Priority, time to live and pins are dealt with around every policy
    (`EvictionQueue`).

    What a policy may read of a node: `last_use` (a counter of releases), `uses` (how many leases
    ended at or below it), `depth` (tokens before it: with `num_tokens`, what recomputing costs),
    `num_tokens`, `num_blocks`, `parent`.  `last_use` and `uses` of a node with children do not count
    its descendants' until those are gone and it can become a candidate.
    """

    name: str
    taken: bool = False
    """A cache uses this object; its nodes would mix with another's."""

    @abstractmethod
    def push(self, node: Node) -> None:
        """`node` is a candidate now.  It may be one that was pushed before and not yet popped."""

    @abstractmethod
    def pop(self) -> Node | None:
        """Take out the next victim, or None if there is no candidate.

        Nodes may have been used, locked, extended or removed since they were pushed; `is_candidate`
        tells.
        """

    def max_blocks(self, node: Node) -> int:  # noqa: ARG002 - an optional hook
        """Blocks to take from the tail of a node that `pop` returned, at most, before it is pushed again."""
        return sys.maxsize

    @abstractmethod
    def clear(self) -> None:
        """Forget every node: the cache was reset."""

    @abstractmethod
    def knows(self, node: Node) -> bool:
        """Whether `node` waits here, pushed and not popped; for checks, may be slow."""

    def bind(self, num_blocks: int, block_size: int) -> None:  # noqa: B027 - an optional hook
        """The cache that this policy is for: called once, before anything else."""

    def ended(self, tokens: Buffer, num_tokens: int, namespace: Namespace) -> None:  # noqa: B027
        """A lease is being released of which the first `num_tokens` tokens are computed.

        Called before `used` of the node where it ended; only if a policy defines it.
        """

    def split(self, upper: Node, lower: Node) -> None:  # noqa: B027 - an optional hook
        """`upper` was cut off the head of `lower`, whose history it shares."""

    def used(self, node: Node) -> None:  # noqa: B027 - an optional hook
        """A lease that ended at `node` was released; its `last_use` and `uses` are up to date."""

    def removed(self, node: Node) -> None:  # noqa: B027 - an optional hook
        """`node` left the tree."""


def is_candidate(node: Node) -> bool:
    """Whether a node is in the tree, has no children and is not in use."""
    return not node.locks and not node.children and node.parent is not None


class HeapPolicy(EvictionPolicy):
    """A policy given by a key, the smallest of which leaves first.

    The heap is persistent and lazy: a node has at most one entry, which is left alone when the
    node is used and put right when it reaches the top.  That is exact as long as a key never
    gets smaller.  A push or pop costs O(log n); entries of nodes that left the tree by another way are
    swept when they outnumber the rest.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[Any, Node]] = []
        self._dead = 0  # entries of nodes that are in the tree no more

    @abstractmethod
    def key(self, node: Node) -> Any:
        """The node's rank; must not get smaller while the node is in the tree."""

    def push(self, node: Node) -> None:
        if not node.queued:
            node.queued = 1
            heapq.heappush(self._heap, (self.key(node), node))

    def pop(self) -> Node | None:
        heap = self._heap
        while heap:
            old, node = heap[0]
            if node.locks or node.children or node.parent is None:
                heapq.heappop(heap)
                node.queued = 0
                self._dead -= node.parent is None
            elif (key := self.key(node)) != old:
                heapq.heapreplace(heap, (key, node))
            else:
                heapq.heappop(heap)
                node.queued = 0
                return node
        return None

    def removed(self, node: Node) -> None:
        if node.queued:
            self._dead += 1
            if self._dead > 64 and self._dead * 2 > len(self._heap):
                self._heap = [entry for entry in self._heap if entry[1].parent is not None]
                heapq.heapify(self._heap)
                self._dead = 0

    def knows(self, node: Node) -> bool:
        return node.queued != 0

    def clear(self) -> None:
        self._heap.clear()
        self._dead = 0
