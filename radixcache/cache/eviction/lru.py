"""Least recently used."""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING

from radixcache.cache.eviction.base import EvictionPolicy

if TYPE_CHECKING:
    from radixcache.cache.node import Node


class LRU(EvictionPolicy):
    """The leaf whose last lease was released longest ago leaves first.

    Nodes are mostly pushed just after their last use, that is, in order: those wait in a line, which
    costs nothing to keep.  The others, parents that lost their last child above all, wait in a heap.
    A node waits in one place, and is left alone there when it is used; a node that is found to have been
    used since moves to the heap.  A push or pop costs O(1), or O(log n) where the heap is concerned.
    Entries of nodes that left the tree by another way are swept when they outnumber the rest.
    """

    name = "lru"

    def __init__(self) -> None:
        self._line: deque[Node] = deque()  # by `queued`, the node's last use when it was pushed
        self._newest = 0  # last use of the last one in the line
        self._heap: list[tuple[int, Node]] = []
        self._dead = 0  # entries of nodes that are in the tree no more

    def push(self, node: Node) -> None:
        if not node.queued:
            last_use = node.last_use
            node.queued = last_use or -1
            if last_use > self._newest:
                self._newest = last_use
                self._line.append(node)
            else:
                heapq.heappush(self._heap, (last_use, node))

    def pop(self) -> Node | None:
        line, heap = self._line, self._heap
        while line or heap:
            if line and not (heap and heap[0][0] <= line[0].queued):
                node = line.popleft()
                last_use = node.queued
            else:
                last_use, node = heapq.heappop(heap)
            if node.locks or node.children or node.parent is None:
                node.queued = 0
                self._dead -= node.parent is None
            elif node.last_use != last_use:
                node.queued = node.last_use
                heapq.heappush(heap, (node.last_use, node))
            else:
                node.queued = 0
                return node
        return None

    def removed(self, node: Node) -> None:
        if node.queued:
            self._dead += 1
            if self._dead > 64 and self._dead * 2 > len(self._line) + len(self._heap):
                self._line = deque(node for node in self._line if node.parent is not None)
                self._heap = [entry for entry in self._heap if entry[1].parent is not None]
                heapq.heapify(self._heap)
                self._dead = 0

    def knows(self, node: Node) -> bool:
        return node.queued != 0

    def clear(self) -> None:
        self._line.clear()
        self._heap.clear()
        self._dead = self._newest = 0
