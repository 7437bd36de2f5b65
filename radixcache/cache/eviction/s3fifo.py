"""S3-FIFO."""

from __future__ import annotations

from typing import TYPE_CHECKING

from radixcache.cache.eviction.base import EvictionPolicy
from radixcache.cache.eviction.ghosts import Ghosts, name_of
from radixcache.cache.eviction.segment import Segment

if TYPE_CHECKING:
    from radixcache.cache.node import Node

_SMALL = 0.1  # share of the candidates in the small queue
_MOST = 3  # uses that count


class S3FIFO(EvictionPolicy):
    """Three queues: new nodes go through a small one, and on to the main one if they were used meanwhile.

    After J. Yang, Y. Zhang, Z. Qiu, Y. Yue and R. Vinayak, "FIFO Queues are All You Need for Cache Eviction",
    SOSP '23.  The third queue has the names of those that left the small one unused: what comes back while it
    is there goes to the main one at once.  Here the units are the tree's nodes; a node waits from when it
    first becomes a leaf.
    """

    name = "s3fifo"

    def __init__(self) -> None:
        self._small = Segment()
        self._main = Segment()
        self._gone = Ghosts()
        self._block_size = 1
        self._known: dict[Node, tuple[int, int, bool]] = {}  # name, uses counted so far, whether in main

    def bind(self, num_blocks: int, block_size: int) -> None:  # noqa: ARG002
        self._block_size = block_size

    def push(self, node: Node) -> None:
        if node in self._small or node in self._main:
            return
        known = self._known.get(node)
        if known is None:
            name = name_of(node, self._block_size)
            known = self._known[node] = (name, node.uses, self._gone.take(name))
        (self._main if known[2] else self._small).add(node)

    def pop(self) -> Node | None:
        small, main = self._small, self._main
        while small or main:
            if len(small) > _SMALL * (len(small) + len(main)) or not main:
                node = small.take()
                if node is None:
                    continue
                name, counted, _ = self._known[node]
                if node.uses > counted:
                    self._known[node] = (name, counted, True)
                    main.append(node)
                    continue
                self._gone.add(name, max(64, len(main)))
                return node
            node = main.take()
            if node is None:
                continue
            name, counted, _ = self._known[node]
            left = min(node.uses - counted, _MOST) - 1
            if left < 0:
                return node
            self._known[node] = (name, node.uses - left, True)
            main.append(node)
        return None

    def removed(self, node: Node) -> None:
        self._small.discard(node)
        self._main.discard(node)
        self._known.pop(node, None)

    def knows(self, node: Node) -> bool:
        return node in self._small or node in self._main

    def clear(self) -> None:
        for line in (self._small, self._main, self._gone, self._known):
            line.clear()
