"""Adaptive replacement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from radixcache.cache.eviction.base import EvictionPolicy
from radixcache.cache.eviction.ghosts import Ghosts, name_of
from radixcache.cache.eviction.segment import Segment

if TYPE_CHECKING:
    from radixcache.cache.node import Node


class ARC(EvictionPolicy):
    """Two lines by recency, of what was used once and of what was used again, whose shares are learned.

    After N. Megiddo and D. Modha, "ARC: A Self-Tuning, Low Overhead Replacement Cache", FAST '03.  The names
    of those that left either line are remembered; what comes back shows which line was too short.  Here the
    units are the tree's nodes, of which only leaves can leave, and the shares are of the candidates.
    """

    name = "arc"

    def __init__(self) -> None:
        self._once = Segment()
        self._again = Segment()
        self._gone_once = Ghosts()
        self._gone_again = Ghosts()
        self._target = 0.0  # length of `_once` to aim at
        self._block_size = 1
        self._known: dict[Node, tuple[int, int]] = {}  # name, uses of a node that counts as used once

    def bind(self, num_blocks: int, block_size: int) -> None:  # noqa: ARG002
        self._block_size = block_size

    def push(self, node: Node) -> None:
        self._once.discard(node)
        self._again.discard(node)
        known = self._known.get(node)
        if known is None:
            known = self._known[node] = self._returned(node)
        (self._again if node.uses > known[1] else self._once).add(node)

    def pop(self) -> Node | None:
        once, again = self._once, self._again
        while once or again:
            of_once = len(once) > self._target or not again
            node = (once if of_once else again).take()
            if node is not None:
                gone = self._gone_once if of_once else self._gone_again
                gone.add(self._known[node][0], max(64, len(once) + len(again)))
                return node
        return None

    def removed(self, node: Node) -> None:
        self._once.discard(node)
        self._again.discard(node)
        self._known.pop(node, None)

    def knows(self, node: Node) -> bool:
        return node in self._once or node in self._again

    def clear(self) -> None:
        for line in (self._once, self._again, self._gone_once, self._gone_again, self._known):
            line.clear()
        self._target = 0.0

    def _returned(self, node: Node) -> tuple[int, int]:
        name = name_of(node, self._block_size)
        once, again = max(1, len(self._gone_once)), max(1, len(self._gone_again))
        if self._gone_once.take(name):
            self._target = min(
                self._target + max(1.0, again / once), float(len(self._once) + len(self._again))
            )
            return name, 0
        if self._gone_again.take(name):
            self._target = max(self._target - max(1.0, once / again), 0.0)
            return name, 0
        return name, 1
