"""Who holds how much of a prompt: a radix tree without KV blocks, for routers and connectors."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from radixcache.cache.blocks import BlockAllocator
from radixcache.cache.digest import namespace_digest
from radixcache.cache.draining import Draining
from radixcache.cache.events import BlocksRemoved, BlocksStored, CacheEvent, CacheSnapshot, EventLog
from radixcache.cache.eviction import LRU, EvictionQueue
from radixcache.cache.namespaces import Namespace, check_namespace
from radixcache.cache.node import Node
from radixcache.cache.tree import RadixTree
from radixcache.ranges import check_int
from radixcache.tokens import TOKEN_BYTES, TOKEN_LIMIT, pack

H = TypeVar("H", bound=Hashable)


class PrefixIndex(Generic[H]):
    """Which holders (replicas, tiers, connectors: anything hashable) hold which prefixes, in whole blocks.

    A holder that holds a block holds everything before it: removing a block removes what follows it.  The
    tree is the cache's own, and its "blocks" are entries of the index: some 250 bytes and the block's tokens
    each, however many holders share it.  Finding, inserting and removing cost as much as in the cache, and
    a few steps for each node on the path and each of its holders.

    Not thread-safe.

    Args:
        block_size: tokens a block.
        max_blocks: entries; when there are more, those inserted longest ago are forgotten, tails first.
    """

    def __init__(self, block_size: int = 16, max_blocks: int = 1 << 20) -> None:
        self.block_size = check_int("block_size", block_size, least=1, most=TOKEN_LIMIT)
        self.max_blocks = check_int("max_blocks", max_blocks, least=1, most=TOKEN_LIMIT)
        self._allocator = BlockAllocator(self.max_blocks)
        self._log = EventLog(lambda _: None)
        self._parts = _Parts[H]()
        queue = EvictionQueue(self._parts, lambda: 0.0)
        draining = Draining(self._allocator, None)
        self._tree = RadixTree(self.block_size, self._allocator, queue, draining, self._log)
        self._nodes: dict[bytes, Node] = self._parts.nodes
        self._heard: dict[H, tuple[int, int]] = {}  # epoch and number of the next event of each holder

    @property
    def num_blocks(self) -> int:
        """Entries, each a block that at least one holder holds."""
        return self._allocator.num_owned

    @property
    def holders(self) -> list[H]:
        """All that hold anything."""
        return list(self._parts.held)

    def insert(self, holder: H, tokens: Sequence[int] | Any, namespace: Namespace = "") -> None:
        """A holder has the whole blocks of a sequence; of more than `max_blocks` only the first ones count.

        Raises:
            TokenError: a bad token id.
            ValueError: a bad namespace.
        """
        self._insert(holder, pack(tokens), check_namespace(namespace))

    def match(self, tokens: Sequence[int] | Any, namespace: Namespace = "") -> dict[H, int]:
        """How many of the first tokens of a prompt each holder has, in whole blocks; those that have any.

        Raises:
            TokenError: a bad token id.
            ValueError: a bad namespace.
        """
        packed = pack(tokens)
        root = self._tree.roots.get(check_namespace(namespace))
        if root is None:
            return {}
        found: dict[H, int] = {}
        size = self.block_size
        node, blocks, *_ = self._tree.match(root, packed, self._whole(packed))
        for at in self._tree.path(node):
            most = blocks if at is node else at.num_blocks
            start = at.depth
            for holder, count in self._parts.counts[at].items():
                found[holder] = start + min(count, most) * size
        return found

    def remove(self, holder: H, tokens: Sequence[int] | Any, namespace: Namespace = "") -> None:
        """A holder does not have the last whole block of a sequence any more, nor what follows it."""
        packed = pack(tokens)
        end = self._whole(packed)
        root = self._tree.roots.get(check_namespace(namespace))
        if root is None or not end:
            return
        node, blocks, whole, *_ = self._tree.match(root, packed, end)
        if whole * TOKEN_BYTES == end:
            self._remove(holder, node, blocks - 1)

    def remove_digests(self, holder: H, digests: Iterable[bytes]) -> None:
        """A holder does not have some blocks any more, nor what follows them; unknown ones are ignored."""
        for digest in digests:
            node = self._nodes.get(digest)
            if node is not None:
                assert node.digests is not None
                self._remove(holder, node, node.digests.index(digest))

    def drop(self, holder: H) -> None:
        """A holder is gone, with all it had."""
        self._heard.pop(holder, None)
        for node in list(self._parts.held.get(holder, ())):
            if node in self._parts.held.get(holder, ()):
                self._remove(holder, node, 0)

    # ---------------------------------------------------------------- events

    def apply(self, holder: H, event: CacheEvent) -> bool:
        """Follow a cache by its events; events that are known already are passed over.

        Returns False if events are missing before this one: nothing is changed, and `restore` is needed.

        Raises:
            ValueError: the event's blocks have another size.
        """
        epoch, expected = self._heard.get(holder, (-1, 0))
        if event.epoch < epoch or (event.epoch == epoch and event.sequence < expected):
            return True
        if event.sequence != (expected if event.epoch == epoch else 0):
            return False
        if isinstance(event, BlocksStored):
            self._check_size(event.block_size)
        if event.epoch != epoch:
            self.drop(holder)
        if isinstance(event, BlocksStored):
            self._store(holder, event)
        elif isinstance(event, BlocksRemoved):
            self.remove_digests(holder, event.digests)
        self._heard[holder] = event.epoch, event.sequence + 1
        return True

    def restore(self, holder: H, snapshot: CacheSnapshot) -> None:
        """Replace all that is known of a holder by a snapshot; its later events follow.

        Raises:
            ValueError: the snapshot's blocks have another size.
        """
        self._check_size(snapshot.block_size)
        self.drop(holder)
        for event in snapshot.stored:
            self._store(holder, event)
        self._heard[holder] = snapshot.epoch, snapshot.next_sequence

    def _check_size(self, block_size: int) -> None:
        if block_size != self.block_size:
            raise ValueError(f"block_size must be {self.block_size}, as in the index, got {block_size}")

    def _store(self, holder: H, event: BlocksStored) -> None:
        if event.parent == namespace_digest(event.namespace):
            self._insert(holder, event.tokens, event.namespace)
            return
        node = self._nodes.get(event.parent)
        if node is None:
            return  # forgotten meanwhile, and so is what follows it
        assert node.digests is not None
        before = [node.edge[: (node.digests.index(event.parent) + 1) * self._tree.block_bytes]]
        while node.parent is not None:
            node = node.parent
            before.append(node.edge)
        self._insert(holder, b"".join([*reversed(before), event.tokens]), event.namespace)

    # ---------------------------------------------------------------- the tree

    def _whole(self, packed: bytes) -> int:
        """Bytes of the whole blocks that the index can hold of a sequence."""
        return min(len(packed) // self._tree.block_bytes, self.max_blocks) * self._tree.block_bytes

    def _insert(self, holder: H, packed: bytes, namespace: Namespace) -> None:
        tree, size = self._tree, self.block_size
        end = self._whole(packed)
        if not end:
            return
        node, blocks, whole, _, _, path = tree.match(tree.root(namespace), packed, end)
        if whole * TOKEN_BYTES < end:
            if blocks < node.num_blocks:
                node = tree.split(node, blocks)
            tree.lock(node)
            start, stop = whole // size, end // tree.block_bytes
            if stop - start > self._allocator.num_free:
                tree.evict(stop - start - self._allocator.num_free, spare_pinned=False)
                self._forget_evicted()
            table = bytearray().join([*path, self._allocator.allocate(stop - start)])
            node = tree.publish(node, packed, table, start, stop)
            tree.touch(node)
            tree.unlock(node)
            blocks = node.num_blocks
            self._log.pending.clear()
            assert node.digests is not None
            self._nodes.update(dict.fromkeys(node.digests[start - node.depth // size :], node))
        else:
            tree.touch(node)
        for at in tree.path(node):
            self._parts.hold(holder, at, blocks if at is node else at.num_blocks)

    def _remove(self, holder: H, node: Node, blocks: int) -> None:
        """A holder has only the first `blocks` blocks of a node, and nothing below it."""
        parts = self._parts
        if parts.counts[node].get(holder, 0) <= blocks:
            return
        below = [child for child in node.children or () if holder in parts.counts[child]]
        while below:
            at = below.pop()
            below += [child for child in at.children or () if holder in parts.counts[child]]
            parts.cut(holder, at, 0)
            self._trim(at)
        parts.cut(holder, node, blocks)
        self._trim(node)

    def _trim(self, node: Node) -> None:
        """Forget the blocks at a node's end that nobody holds, and then its parent's."""
        at: Node | None = node
        while at is not None and at.parent is not None and at.children is None:
            parent = at.parent
            surplus = at.num_blocks - max(self._parts.counts[at].values(), default=0)
            if not surplus:
                break
            self._tree.shrink(at, surplus)
            at = parent
        self._forget_evicted()

    def _forget_evicted(self) -> None:
        """Follow the tree in what it evicted."""
        for event in self._log.pending:
            if isinstance(event, BlocksRemoved):
                for node in {self._nodes.pop(digest) for digest in event.digests}:
                    self._parts.clip(node)
        self._log.pending.clear()


class _Parts(LRU, Generic[H]):
    """How many blocks of each node's edge each holder has; an eviction policy, as it must follow the nodes.

    Attributes:
        counts: by node, blocks from its beginning by holder; at least 1 each.
        held: nodes of which a holder has any.
        nodes: the node of each block's digest.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[Node, dict[H, int]] = {}
        self.held: dict[H, set[Node]] = {}
        self.nodes: dict[bytes, Node] = {}

    def hold(self, holder: H, node: Node, blocks: int) -> None:
        """A holder has at least `blocks` blocks of a node."""
        counts = self.counts.setdefault(node, {})
        counts[holder] = max(blocks, counts.get(holder, 0))
        self.held.setdefault(holder, set()).add(node)

    def cut(self, holder: H, node: Node, blocks: int) -> None:
        """A holder has only `blocks` blocks of a node, fewer than before."""
        if blocks:
            self.counts[node][holder] = blocks
        else:
            del self.counts[node][holder]
            self._release(holder, node)

    def clip(self, node: Node) -> None:
        """A node lost blocks from its end."""
        most = node.num_blocks
        for holder, count in self.counts.get(node, {}).items():
            if count > most:
                self.counts[node][holder] = most

    def split(self, upper: Node, lower: Node) -> None:
        """Both have the same holders, as far as their blocks go."""
        cut = upper.num_blocks
        both = self.counts[lower]
        self.counts[upper] = {holder: min(count, cut) for holder, count in both.items()}
        self.counts[lower] = {holder: count - cut for holder, count in both.items() if count > cut}
        for holder, count in both.items():
            self.held[holder].add(upper)
            if count <= cut:
                self._release(holder, lower)
        assert upper.digests is not None
        self.nodes.update(dict.fromkeys(upper.digests, upper))

    def removed(self, node: Node) -> None:
        """Nobody has a node that left."""
        super().removed(node)
        for holder in self.counts.pop(node, {}):
            self._release(holder, node)

    def _release(self, holder: H, node: Node) -> None:
        nodes = self.held[holder]
        nodes.discard(node)
        if not nodes:
            del self.held[holder]
