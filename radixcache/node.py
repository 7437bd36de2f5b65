"""A node of the radix tree, and what a search of the tree returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from radixcache.blocks import BLOCK_BYTES
from radixcache.namespaces import Namespace
from radixcache.tokens import TOKEN_BYTES

if TYPE_CHECKING:
    from radixcache.siblings import Children


class Node:
    """An edge of the tree and what lies at its end.

    The edge is whole blocks of tokens, or, in a childless *tail*, a single block that is not full.
    `locks` counts the leases that end here and the children that are locked: a node is in use when
    it is not zero, and then so are its ancestors.
    """

    __slots__ = (
        "blocks",
        "children",
        "depth",
        "digests",
        "edge",
        "last_use",
        "locks",
        "parent",
        "queued",
        "uses",
    )

    def __init__(self, parent: Node | None, edge: bytes, blocks: bytes, depth: int, locks: int) -> None:
        self.parent = parent  # None for a root, and for a node that left the tree
        self.edge = edge  # packed tokens
        self.blocks = blocks  # their blocks' ids, packed
        self.depth = depth  # tokens before the edge
        self.children: Children | None = None  # never empty
        self.digests: list[bytes] | None = None  # one a block, when events are on
        self.locks = locks
        self.last_use = 0
        self.uses = 0
        self.queued = 0  # the policy's own mark

    @property
    def num_tokens(self) -> int:
        """Tokens of the edge."""
        return len(self.edge) // TOKEN_BYTES

    @property
    def num_blocks(self) -> int:
        """Blocks that hold the edge."""
        return len(self.blocks) // BLOCK_BYTES

    def __lt__(self, other: Node) -> bool:
        # settles ties in heaps: what lies deeper leaves first
        return self.depth > other.depth


class Root(Node):
    """The empty prefix of one namespace."""

    __slots__ = ("namespace",)

    def __init__(self, namespace: Namespace) -> None:
        super().__init__(None, b"", b"", 0, 0)
        self.namespace = namespace


# How much of a query is published:
# - the deepest node reached with whole blocks,
# - how many of its edge's blocks match,
# - tokens of all matching whole blocks,
# - the node with the block that goes on matching for some tokens, if any: the first node itself, at
#   the index after its matching blocks, or a child of it, at index 0,
# - how many tokens of that block match,
# - the matching whole blocks, a packed row for each node down to the first.
# A plain tuple, as one is made for every request.
Match = tuple[Node, int, int, Node | None, int, list[bytes]]
