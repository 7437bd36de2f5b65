"""A line of nodes, for policies that keep several."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from radixcache.cache.eviction.base import is_candidate

if TYPE_CHECKING:
    from radixcache.cache.node import Node


class Segment:
    """Nodes in order of coming; every operation is O(1).

    A parent becomes a candidate when its last child has left, long after both were used: it takes its place
    at the head, where the child was.
    """

    def __init__(self) -> None:
        self._nodes: OrderedDict[Node, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, node: Node) -> bool:
        return node in self._nodes

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes)

    def add(self, node: Node) -> None:
        """Put a node at the end, or at the head if it was not used later than the node there."""
        nodes = self._nodes
        first = next(iter(nodes), None)
        nodes[node] = None
        if first is not None and first.last_use >= node.last_use:
            nodes.move_to_end(node, last=False)

    def append(self, node: Node) -> None:
        """Put a node at the end."""
        self._nodes[node] = None
        self._nodes.move_to_end(node)

    def take(self) -> Node | None:
        """Take the first candidate out; nodes before it that are none any more are dropped."""
        nodes = self._nodes
        while nodes:
            node, _ = nodes.popitem(last=False)
            if is_candidate(node):
                return node
        return None

    def discard(self, node: Node) -> None:
        """Take a node out, if it is in."""
        self._nodes.pop(node, None)

    def clear(self) -> None:
        """Take all out."""
        self._nodes.clear()
