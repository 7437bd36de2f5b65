"""A node of the radix tree, and what a search of the tree returns."""

from __future__ import annotations

from typing import NamedTuple

from sortedcontainers import SortedList

from radixcache.namespaces import Namespace
from radixcache.tokens import TOKEN_BYTES


class Node:
    """An edge of the tree and what lies at its end.

    The edge is `len(blocks)` whole blocks of tokens, or, in a childless *tail*, a single block
    that is not full.  `locks` counts the leases that end here and the children that are locked:
    a node is in use when it is not zero, and then so are its ancestors.
    """

    __slots__ = (
        "blocks",
        "children",
        "depth",
        "digests",
        "edge",
        "last_use",
        "locks",
        "order",
        "parent",
        "queued",
        "uses",
    )

    def __init__(self, parent: Node | None, edge: bytes, blocks: list[int], depth: int) -> None:
        self.parent = parent  # None for a root, and for a node that left the tree
        self.edge = edge
        self.blocks = blocks
        self.depth = depth  # tokens before the edge
        self.children: dict[bytes, Node] | None = None  # by the bytes of their first block
        self.order: SortedList[bytes] | None = (
            None  # the children's keys sorted, once a search has needed them
        )
        self.digests: list[bytes] | None = None  # one a block, when events are on
        self.locks = 0
        self.last_use = 0
        self.uses = 0
        self.queued = False  # the policy's own mark

    @property
    def num_tokens(self) -> int:
        """Tokens of the edge."""
        return len(self.edge) // TOKEN_BYTES

    def __lt__(self, other: Node) -> bool:
        # settles ties in heaps: what lies deeper leaves first
        return self.depth > other.depth


class Root(Node):
    """The empty prefix of one namespace."""

    __slots__ = ("namespace",)

    def __init__(self, namespace: Namespace) -> None:
        super().__init__(None, b"", [], 0)
        self.namespace = namespace


class Match(NamedTuple):
    """How much of a query is published.

    Attributes:
        node: the deepest node reached with whole blocks.
        blocks: how many of its edge's blocks match.
        whole: tokens of all matching whole blocks.
        source: the node with the block that goes on matching for some tokens, if any: `node`
            itself, at index `blocks`, or a child, at index 0.
        partial: how many tokens of that block match.
    """

    node: Node
    blocks: int
    whole: int
    source: Node | None
    partial: int
