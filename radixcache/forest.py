"""Radix trees as they are read: their shape, and what of a prompt they have."""

from __future__ import annotations

from radixcache.blocks import BLOCK_BYTES, BlockAllocator, first_block
from radixcache.events import CacheEvent, namespace_digest
from radixcache.eviction import EvictionQueue
from radixcache.namespaces import Namespace
from radixcache.node import Match, Node, Root
from radixcache.siblings import around, nearest
from radixcache.tokens import TOKEN_BYTES, common_prefix

LONG_BYTES = 1 << 16  # an edge longer than this is compared piece by piece, and cut before it shrinks


class Forest:
    """Radix trees over packed tokens, one a namespace, sharing one pool of blocks.

    With d nodes on the path and n siblings, a match costs O(length) bytes of memcmp and
    O(d log n + log edge) steps.
    """

    def __init__(
        self,
        block_size: int,
        allocator: BlockAllocator,
        queue: EvictionQueue,
        events: list[CacheEvent] | None = None,
    ) -> None:
        self.block_size = block_size
        self.block_bytes = block_size * TOKEN_BYTES
        self.allocator = allocator
        self.queue = queue
        self.roots: dict[Namespace, Root] = {}
        self.held: dict[int, Node] = {}  # published blocks with extra references; each heads its node
        self.num_evictable = 0  # published blocks that are neither locked nor held
        self.num_tokens = 0  # published
        self.num_unfilled = 0  # places for tokens left in published tails
        self.num_published = 0  # blocks that entered, ever
        self.num_duplicates = 0  # blocks swapped for a published one, ever
        self.num_evicted = 0  # blocks, ever
        self.events = events  # what happened is appended here; None keeps no account
        self.clock = 0  # releases, ever; the unit of `last_use`

    def root(self, namespace: Namespace) -> Root:
        """The root of a namespace, made if it is new."""
        root = self.roots.get(namespace)
        if root is None:
            root = self.roots[namespace] = Root(namespace)
            if self.events is not None:
                root.digests = [namespace_digest(namespace)]
        return root

    def drop_if_empty(self, node: Node) -> None:
        """Forget a namespace that has nothing; any other node is left alone."""
        if node.children is None and isinstance(node, Root):
            del self.roots[node.namespace]

    def match(self, root: Node, query: bytes, end: int) -> Match:
        """Find the longest published prefix of `query[:end]` (bytes); changes no topology."""
        size = self.block_bytes
        node, pos = root, 0
        source, partial = None, 0
        path: list[bytes] = []
        while pos < end and (children := node.children) is not None:
            stop = pos + size
            key = query[pos : stop if stop < end else end]
            before, child = around(children, key)
            if child is not None:
                edge = child.edge
                length = len(edge)
                if size <= length <= end - pos and length <= LONG_BYTES and query.startswith(edge, pos):
                    node = child
                    pos += length
                    path.append(child.blocks)
                    continue
                if len(key) == size and edge.startswith(key):
                    common = common_prefix(query, edge, pos, 0, (end - pos) // TOKEN_BYTES)
                    if common * TOKEN_BYTES == length:
                        node = child
                        pos += length
                        path.append(child.blocks)
                        continue
                    blocks, partial = divmod(common, self.block_size)
                    path.append(child.blocks[: blocks * BLOCK_BYTES])
                    whole = pos // TOKEN_BYTES + common - partial
                    return child, blocks, whole, child if partial else None, partial, path
            if size > TOKEN_BYTES and (child is not None or before is not None):
                source, partial = nearest(key, before, child)
            break
        return node, len(node.blocks) // BLOCK_BYTES, pos // TOKEN_BYTES, source, partial, path

    def continues(self, match: Match) -> bool:
        """Whether something published goes on after what matches, that is, otherwise."""
        node, blocks, _, source, partial, _ = match
        if source is None:
            return blocks < node.num_blocks or node.children is not None
        index = blocks if source is node else 0
        return source.num_tokens - index * self.block_size > partial

    def path(self, node: Node) -> list[Node]:
        """The nodes from below the root down to `node`."""
        nodes = []
        while node.parent is not None:
            nodes.append(node)
            node = node.parent
        nodes.reverse()
        return nodes

    def namespace(self, node: Node) -> Namespace:
        """The namespace of a node in the tree."""
        while node.parent is not None:
            node = node.parent
        assert isinstance(node, Root)
        return node.namespace

    def contribution(self, node: Node) -> int:
        """Blocks of a node that can be evicted while no lease uses it."""
        count = len(node.blocks) // BLOCK_BYTES
        return count - 1 if self.held and count and first_block(node.blocks) in self.held else count
