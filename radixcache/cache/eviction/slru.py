"""Segmented LRU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from radixcache.cache.eviction.base import EvictionPolicy
from radixcache.cache.eviction.segment import Segment

if TYPE_CHECKING:
    from radixcache.cache.node import Node

_PROTECTED = 0.8  # of the nodes, at most


class SLRU(EvictionPolicy):
    """What was used once leaves before what was used again, of which there is a limited share.

    After R. Karedla, J. Love and B. Wherry, "Caching strategies to improve disk system performance", IEEE
    Computer 27(3), 1994.  The share counts candidates.  What is protected no more has to be used again to be
    protected again.
    """

    name = "slru"

    def __init__(self) -> None:
        self._probation = Segment()
        self._protected = Segment()
        self._demoted: dict[Node, int] = {}  # uses when it was

    def push(self, node: Node) -> None:
        self._probation.discard(node)
        self._protected.discard(node)
        if node.uses > self._demoted.get(node, 1):
            self._demoted.pop(node, None)
            self._protected.add(node)
        else:
            self._probation.add(node)

    def pop(self) -> Node | None:
        probation, protected = self._probation, self._protected
        while len(protected) > _PROTECTED * (len(protected) + len(probation)):
            node = protected.take()
            if node is not None:
                self._demoted[node] = node.uses
                probation.append(node)
        return probation.take() or protected.take()

    def removed(self, node: Node) -> None:
        self._probation.discard(node)
        self._protected.discard(node)
        self._demoted.pop(node, None)

    def knows(self, node: Node) -> bool:
        return node in self._probation or node in self._protected

    def clear(self) -> None:
        self._probation.clear()
        self._protected.clear()
        self._demoted.clear()
