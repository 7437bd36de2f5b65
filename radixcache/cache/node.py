"""A node of the radix tree, how it gets and loses children, and what a search of the tree returns."""

from __future__ import annotations

from bisect import bisect_left

from radixcache.cache.blocks import BLOCK_BYTES
from radixcache.cache.namespaces import Namespace
from radixcache.cache.siblings import FEW, Children, Siblings, edge_of
from radixcache.tokens import TOKEN_BYTES


class Node:
    """An edge of the tree and the node at its end.

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
        self.children: Children[Node] | None = None  # never empty
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
        # settles ties in heaps: the deeper node leaves first
        return self.depth > other.depth


class Root(Node):
    """The empty prefix of one namespace."""

    __slots__ = ("namespace",)

    def __init__(self, namespace: Namespace) -> None:
        super().__init__(None, b"", b"", 0, 0)
        self.namespace = namespace


def add_child(parent: Node, child: Node, key_bytes: int) -> None:
    """Put a new node among its parent's children; their first blocks have `key_bytes`."""
    children = parent.children
    if children is None:
        parent.children = [child]
    elif isinstance(children, Siblings):
        children.add(child)
    else:
        children.insert(bisect_left(children, child.edge, key=edge_of), child)
        if len(children) > FEW:
            parent.children = Siblings(children, key_bytes)


def remove_child(parent: Node, child: Node) -> None:
    """Take a node out of its parent's children."""
    children = parent.children
    if isinstance(children, Siblings):
        parent.children = children.remove(child)
        return
    assert children is not None
    if len(children) == 1:
        parent.children = None
    else:
        children.remove(child)


def replace_child(parent: Node, child: Node, by: Node) -> None:
    """Put `by`, which begins with the same block, in the place of a child."""
    children = parent.children
    if isinstance(children, Siblings):
        children.replace(child, by)
        return
    assert children is not None
    children[children.index(child)] = by


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
