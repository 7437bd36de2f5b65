"""Names of nodes that left, for policies that learn from what comes back."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from radixcache.cache.digest import prefix_digests
from radixcache.tokens import TOKEN_BYTES

if TYPE_CHECKING:
    from radixcache.cache.node import Node


def name_of(node: Node, block_size: int) -> int:
    """A digest of all tokens up to the end of the node's first block, and of the namespace.

    What is computed again after a node has left begins with the same block at the same place, so it has the
    same name, however much of it there is.  O(tokens before it) bytes of xxh3.
    """
    edges = [node.edge[: block_size * TOKEN_BYTES]]
    at = node
    while at.parent is not None:
        at = at.parent
        edges.append(at.edge)
    tokens = b"".join(reversed(edges))
    return prefix_digests(getattr(at, "namespace", ""), tokens, [len(tokens)])[0]


class Ghosts:
    """A bounded set of names, the oldest forgotten first."""

    def __init__(self) -> None:
        self._names: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: int, limit: int) -> None:
        """Remember a name, one of `limit` at most."""
        self._names[name] = None
        while len(self._names) > limit:
            self._names.popitem(last=False)

    def take(self, name: int) -> bool:
        """Whether a name is remembered; it is forgotten now."""
        return self._names.pop(name, 0) is None

    def clear(self) -> None:
        """Forget all."""
        self._names.clear()
