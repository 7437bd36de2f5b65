"""A node's children in the order of their tokens' bytes: one bisection finds where a query continues.

Siblings differ within their first block, and no tail of a node is a prefix of a sibling.  So the child
that begins with a block, if there is one, is the first that does not sort before it; and since in a
sorted set of byte strings the longest common prefix with a query is had by one of the query's two
neighbours, those two nodes are all that can match in part, or be a tail that the query supersedes.

A few children are a plain list of nodes, more are `Siblings`.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from operator import attrgetter
from typing import Generic, Protocol, TypeVar

from radixcache.tokens import TOKEN_BYTES

edge_of = attrgetter("edge")
_TOKEN_BITS = 8 * TOKEN_BYTES
_number = int.from_bytes  # a big-endian number sorts like its bytes
FEW = 8  # nodes in a plain list, at most
_MANY = 512  # nodes in one of several lists, at most


class Sibling(Protocol):
    """What is kept in order: the packed tokens of an edge, and how many tokens lie before it."""

    edge: bytes
    depth: int


S = TypeVar("S", bound=Sibling)


class Siblings(Generic[S]):
    """Sorted nodes in lists of bounded length; to find, add or remove one takes O(log n) steps.

    A list of lists as the sortedcontainers package has it, but beside each list of nodes is an array of
    their first tokens: only nodes that begin with a query's first token are looked at, and the many that are
    not in the processor's cache are spared.  Microseconds for edges of 16 random tokens on a loaded x86-64
    machine, beside `SortedKeyList` with the edge as key (find is both neighbours of a query):

        children        find           add         remove
              30    1.3 /  1.2     1.6 / 1.0     2.0 / 1.2
           1,000    2.3 /  2.0     2.3 / 2.2     2.9 / 1.9
         100,000    4.4 / 10.7     3.8 / 8.5     5.1 / 7.8
         400,000    3.7 / 12.2     3.9 / 8.7     4.5 / 8.5
    """

    __slots__ = ("_heads", "_key_bytes", "_lists", "_low_heads", "_lows", "depth")

    def __init__(self, nodes: list[S], key_bytes: int) -> None:
        self.depth = nodes[0].depth  # of every one
        self._key_bytes = key_bytes  # of a first block
        self._lists = [nodes]
        self._heads = [array("I", [_number(node.edge[:TOKEN_BYTES], "big") for node in nodes])]
        self._lows = [b""]  # what is in a list does not sort before its low, what is left of it does
        self._low_heads = array("I", [0])  # their first tokens

    def around(self, key: bytes) -> tuple[S | None, S | None]:
        """The last node before `key` and the first that is not, if they share its first token."""
        head = _number(key[:TOKEN_BYTES], "big")
        which = self._which(key, head) if len(self._lists) > 1 else 0
        heads = self._heads[which]
        at = bisect_left(heads, head)
        if 0 < at < len(heads) and heads[at] != head:
            return None, None
        return self._neighbours(key, head, which, at)

    def _neighbours(self, key: bytes, head: int, which: int, at: int) -> tuple[S | None, S | None]:
        nodes, heads = self._lists[which], self._heads[which]
        if at < len(heads) and heads[at] == head:
            at = bisect_left(nodes, key, at, bisect_right(heads, head, at), key=edge_of)
        before = node = None
        if at:
            if heads[at - 1] == head:
                before = nodes[at - 1]
        elif which and self._heads[which - 1][-1] == head:
            before = self._lists[which - 1][-1]
        if at < len(nodes):
            if heads[at] == head:
                node = nodes[at]
        elif which + 1 < len(self._lists) and self._heads[which + 1][0] == head:
            node = self._lists[which + 1][0]
        return before, node

    def add(self, node: S) -> None:
        """Put a node in its place."""
        which, at = self._locate(node.edge)
        nodes = self._lists[which]
        nodes.insert(at, node)
        self._heads[which].insert(at, _number(node.edge[:TOKEN_BYTES], "big"))
        if len(nodes) > _MANY:
            self._split(which)

    def remove(self, node: S) -> Children[S]:
        """Take out a node that is there; what is left, as a plain list if it is few."""
        which, at = self._locate(node.edge)
        del self._lists[which][at], self._heads[which][at]
        if len(self._lists) > 1 and 8 * len(self._lists[which]) < _MANY:
            self._merge(max(which, 1))
        nodes = self._lists[0]
        return nodes if len(self._lists) == 1 and 2 * len(nodes) <= FEW else self

    def replace(self, node: S, by: S) -> None:
        """Put `by`, which begins with the same block, in the place of a node."""
        which, at = self._locate(node.edge)
        self._lists[which][at] = by

    def _which(self, key: bytes, head: int) -> int:
        """The list in which a key that begins with `head` is, or belongs."""
        which = bisect_right(self._low_heads, head) - 1
        return which if self._low_heads[which] != head else bisect_right(self._lows, key) - 1

    def _locate(self, key: bytes) -> tuple[int, int]:
        """The list and the index in it of the first node that does not sort before `key`."""
        head = _number(key[:TOKEN_BYTES], "big")
        which = self._which(key, head) if len(self._lists) > 1 else 0
        heads = self._heads[which]
        at = bisect_left(heads, head)
        if at < len(heads) and heads[at] == head:
            at = bisect_left(self._lists[which], key, at, bisect_right(heads, head, at), key=edge_of)
        return which, at

    def _split(self, which: int) -> None:
        nodes, heads = self._lists[which], self._heads[which]
        half = len(nodes) // 2
        self._lists.insert(which + 1, nodes[half:])
        self._heads.insert(which + 1, heads[half:])
        self._lows.insert(which + 1, nodes[half].edge[: self._key_bytes])
        self._low_heads.insert(which + 1, heads[half])
        del nodes[half:], heads[half:]

    def _merge(self, which: int) -> None:
        left = which - 1
        self._lists[left] += self._lists.pop(which)
        self._heads[left] += self._heads.pop(which)
        del self._lows[which], self._low_heads[which]
        if len(self._lists[left]) > _MANY:
            self._split(left)

    def __iter__(self) -> Iterator[S]:
        for nodes in self._lists:
            yield from nodes


Children = list[S] | Siblings[S]


def around(children: Children[S], key: bytes) -> tuple[S | None, S | None]:
    """The last child before `key` in byte order and the first that is not.

    One that does not begin with the first token of `key` may be left out.
    """
    if isinstance(children, Siblings):
        return children.around(key)
    at = bisect_left(children, key, key=edge_of)
    return children[at - 1] if at else None, children[at] if at < len(children) else None


def nearest(key: bytes, before: S | None, after: S | None) -> tuple[S | None, int]:
    """Of two neighbours of `key` the one with more tokens in common, and how many; None if there is none."""
    best, longest = None, 0
    wanted = _number(key, "little")
    for node in (before, after):
        if node is None:
            continue
        edge = node.edge
        differing = wanted ^ _number(edge[: len(key)], "little")
        common = ((differing & -differing).bit_length() - 1) // _TOKEN_BITS if differing else len(key)
        common = min(common, len(edge) // TOKEN_BYTES, len(key) // TOKEN_BYTES)  # a short one is as if padded
        if common > longest:
            best, longest = node, common
    return best, longest
