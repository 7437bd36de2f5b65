"""The radix tree: which prefixes are published, in which blocks, and which of them are in use."""

from __future__ import annotations

from collections.abc import Iterator

from radixcache.cache.blocks import BLOCK_BYTES, BlockAllocator, Blocks, block_ids, first_block
from radixcache.cache.digest import block_digests, namespace_digest
from radixcache.cache.draining import Draining, EvictedBlocks
from radixcache.cache.events import EventLog, StoredRow
from radixcache.cache.eviction import EvictionQueue
from radixcache.cache.namespaces import Namespace
from radixcache.cache.node import Match, Node, Root, add_child, remove_child, replace_child
from radixcache.cache.siblings import Siblings, around, nearest
from radixcache.tokens import TOKEN_BYTES, common_prefix

Buffer = bytes | bytearray
LONG_BYTES = 1 << 16  # an edge longer than this is compared piece by piece, and cut before it shrinks
_APPEND_BYTES = 1 << 14  # an edge longer than this is continued in a child, not copied to be extended


class RadixTree:
    """Radix trees over packed tokens, one per namespace, sharing one pool of blocks.

    With d nodes on the path and n siblings, a match costs O(length) bytes of memcmp and
    O(d log n + log edge) steps.  Leases lock the node they end at, copies and forks hold single blocks;
    taking and giving back a lock stops at the first ancestor that is locked by others.  Publishing costs a
    match of what is new; evicting a node costs O(log n) steps.
    """

    def __init__(
        self,
        block_size: int,
        allocator: BlockAllocator,
        queue: EvictionQueue,
        draining: Draining,
        events: EventLog | None = None,
        *,
        named: bool = False,
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
        self.events = events
        self.draining = draining
        self.named = named or events is not None or draining.has_sink  # nodes have digests
        self.clock = 0  # releases, ever; the unit of `last_use`

    def root(self, namespace: Namespace) -> Root:
        """The root of a namespace, made if it is new."""
        root = self.roots.get(namespace)
        if root is None:
            root = self.roots[namespace] = Root(namespace)
            if self.named:
                root.digests = [namespace_digest(namespace)]
        return root

    def drop_if_empty(self, node: Node) -> None:
        """Forget a namespace that has nothing; any other node is left alone."""
        if node.children is None and isinstance(node, Root):
            del self.roots[node.namespace]

    # ---------------------------------------------------------------- reading

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

    def without_last(self, match: Match) -> Match:
        """A match that is not empty, one token shorter: its last block, if whole, matches in part then."""
        node, blocks, whole, source, partial, path = match
        if not partial:
            source = node
            path[-1] = path[-1][:-BLOCK_BYTES]
            blocks -= 1
            whole -= self.block_size
            partial = self.block_size
            if not blocks:
                assert node.parent is not None
                path.pop()
                node = node.parent
                blocks = len(node.blocks) // BLOCK_BYTES
        partial -= 1
        return node, blocks, whole, source if partial else None, partial, path

    def continues(self, match: Match) -> bool:
        """Whether something published goes on after what matches, that is, differently."""
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

    def stored(self) -> Iterator[StoredRow]:
        """Every published whole block, a node at a time, parents before children; nodes must have digests."""
        for root in self.roots.values():
            assert root.digests is not None
            stack = [(root.digests[-1], child) for child in root.children or ()]
            while stack:
                parent, node = stack.pop()
                if node.digests is not None:  # not a partial tail
                    yield root.namespace, parent, tuple(node.digests), node.edge, node.blocks
                    stack += [(node.digests[-1], child) for child in node.children or ()]

    # ---------------------------------------------------------------- use

    def lock(self, node: Node) -> None:
        """A lease ends at `node` now: neither it nor an ancestor can be evicted."""
        at: Node | None = node
        while at is not None:
            at.locks += 1
            if at.locks > 1:
                return
            self.num_evictable -= self.contribution(at) if self.held else len(at.blocks) // BLOCK_BYTES
            at = at.parent

    def unlock(self, node: Node) -> None:
        """Take back one `lock`."""
        at: Node | None = node
        while at is not None:
            at.locks -= 1
            if at.locks:
                return
            self.num_evictable += self.contribution(at) if self.held else len(at.blocks) // BLOCK_BYTES
            parent = at.parent
            if at.children is None:
                if parent is None:
                    self.drop_if_empty(at)
                else:
                    self.queue.push(at)
            at = parent

    def hold_ref(self, node: Node) -> int:
        """Keep the first block of `node` until it is let go; returns the block."""
        block = first_block(node.blocks)
        self.allocator.share(block)
        if block not in self.held:
            self.held[block] = node
            if not node.locks:
                self.num_evictable -= 1
        return block

    def release_ref(self, block: int) -> None:
        """Drop one reference to a block that the tree may own, too."""
        if self.allocator.drop_one(block) and block in self.held:
            node = self.held.pop(block)
            if not node.locks:
                self.num_evictable += 1
                if node.children is None:
                    self.queue.push(node)

    def drop_private(self, blocks: Blocks) -> None:
        """Drop one reference to each block of a lease past what it has published.

        Its tail may be shared with a fork that has published it.
        """
        if self.held:
            for at in range(0, len(blocks), BLOCK_BYTES):
                self.release_ref(first_block(blocks[at : at + BLOCK_BYTES]))
        else:
            self.allocator.drop(blocks)

    def touch(self, node: Node) -> None:
        """A lease that ended at `node` was released.

        Ancestors are not visited: what they were used for is known from their descendants, and
        is handed up when those leave (`_unlink`), before it can matter.
        """
        if node.parent is None:
            return
        self.clock += 1
        node.last_use = self.clock
        node.uses += 1
        self.queue.policy.used(node)

    # ---------------------------------------------------------------- growing

    def split(self, node: Node, blocks: int) -> Node:
        """Cut a node after its first `blocks` blocks; returns the new upper part.

        The lower part stays the same object, so leases that end there go on doing so.
        """
        parent = node.parent
        assert parent is not None
        cut = blocks * self.block_bytes
        edge = node.edge
        upper = Node(
            parent, edge[:cut], node.blocks[: blocks * BLOCK_BYTES], node.depth, 1 if node.locks else 0
        )
        upper.children = [node]
        if node.digests is not None:
            upper.digests = node.digests[:blocks]
            node.digests = node.digests[blocks:]
        replace_child(parent, node, upper)
        node.parent = upper
        node.edge = edge[cut:]
        node.blocks = node.blocks[blocks * BLOCK_BYTES :]
        node.depth += blocks * self.block_size
        if self.held:
            block = first_block(upper.blocks)
            if block in self.held:
                self.held[block] = upper
        self.queue.split(upper, node)
        return upper

    def publish(self, node: Node, tokens: Buffer, table: bytearray, start: int, stop: int) -> Node:
        """Publish blocks `start` to `stop` of a sequence, whose lease ends at `node`.

        The lock moves to the node returned.  Blocks that are published already are swapped in
        `table`, a packed row, for the published ones, and the lease's own are dropped.
        """
        size = self.block_bytes
        pos, end = start * size, stop * size
        while pos < end:
            children = node.children
            if children is None:
                break
            key = bytes(tokens[pos : pos + size])
            before, child = around(children, key)
            if child is None or not child.edge.startswith(key):
                if before is not None:
                    self._supersede(before, key)
                break
            count = min(len(child.blocks) // BLOCK_BYTES, (end - pos) // size)
            if count > 1:
                count = common_prefix(tokens, child.edge, pos, 0, count * self.block_size) // self.block_size
            if count * BLOCK_BYTES < len(child.blocks):
                child = self.split(child, count)
            first = pos // size * BLOCK_BYTES
            last = first + count * BLOCK_BYTES
            self.allocator.drop(table[first:last])
            table[first:last] = child.blocks
            self.num_duplicates += count
            child.locks += 1
            if child.locks == 1:
                self.num_evictable -= self.contribution(child)
            else:
                node.locks -= 1
            node = child
            pos += count * size
        if pos < end:
            blocks = bytes(table[pos // size * BLOCK_BYTES : stop * BLOCK_BYTES])
            node = self._grow(node, bytes(tokens[pos:end]), blocks)
        return node

    def _grow(self, node: Node, edge: bytes, blocks: bytes) -> Node:
        """Add new blocks after `node`, whose one lease moves with them, and return where they ended."""
        self.num_published += len(blocks) // BLOCK_BYTES
        self.num_tokens += len(edge) // TOKEN_BYTES
        digests = self._stored(node, edge, blocks) if self.named else None
        if (
            node.children is None
            and node.locks == 1
            and node.parent is not None
            and len(node.edge) <= _APPEND_BYTES
        ):
            if node.digests is not None and digests is not None:
                node.digests += digests
            node.edge += edge
            node.blocks += blocks
            return node
        child = self._add(node, edge, blocks, 1)  # the lock of the lease that ended at `node`
        child.digests = digests
        return child

    def publish_tail(self, node: Node, tail: bytes, block: bytes) -> bool:
        """Publish a block that is not full after `node`, whose lease ends, as a tail.

        Returns False if a published block begins with the same tokens: the caller keeps `block`,
        a packed row of one.  A published tail that the new one begins with is superseded and
        removed, so no tail of a node is a prefix of any of its other children.
        """
        if node.children is not None:
            before, known = around(node.children, tail)
            if known is not None and known.edge.startswith(tail):
                self.touch(known if len(known.edge) < self.block_bytes else node)
                return False
            if before is not None:
                self._supersede(before, tail)
        self.num_published += 1
        self.num_tokens += len(tail) // TOKEN_BYTES
        self.num_unfilled += (self.block_bytes - len(tail)) // TOKEN_BYTES
        child = self._add(node, tail, block, 0)
        self.touch(child)
        if self.allocator.extra and first_block(block) in self.allocator.extra:
            self.held[first_block(block)] = child
        else:
            self.num_evictable += 1
            self.queue.push(child)
        return True

    def _supersede(self, tail: Node, key: bytes) -> None:
        """Remove `tail`, the sibling just before `key`, if it is a tail that `key` begins with."""
        if len(tail.edge) >= len(key) or not key.startswith(tail.edge):
            return
        if not self.held or self.held.pop(first_block(tail.blocks), None) is None:
            self.num_evictable -= 1
        self._unlink(tail)
        self.allocator.drop(tail.blocks)

    def _add(self, node: Node, edge: bytes, blocks: bytes, locks: int) -> Node:
        children = node.children
        if children is None:
            depth = node.depth + len(node.edge) // TOKEN_BYTES
        else:  # siblings share one object
            depth = children.depth if isinstance(children, Siblings) else children[0].depth
        child = Node(node, edge, blocks, depth, locks)
        add_child(node, child, self.block_bytes)
        return child

    def _stored(self, node: Node, edge: bytes, blocks: bytes) -> list[bytes]:
        assert node.digests is not None
        parent = node.digests[-1]
        digests = block_digests(parent, edge, self.block_bytes)
        if self.events is not None:
            self.events.stored(self.namespace(node), parent, digests, edge, blocks)
        return digests

    # ---------------------------------------------------------------- shrinking

    def evict(self, count: int, *, spare_pinned: bool, urgent: bool = True) -> int:
        """Evict up to `count` blocks; returns how many.

        Args:
            count: blocks.
            spare_pinned: skip pinned ones.
            urgent: they are needed now, so that all of them become free; else some may drain.
        """
        gone = 0
        while gone < count:
            node = self.queue.pop(spare_pinned=spare_pinned)
            if node is None:
                break
            gone += self.shrink(node, min(count - gone, self.queue.policy.max_blocks(node)), urgent=urgent)
        self.num_evicted += gone
        return gone

    def shrink(self, node: Node, want: int, *, urgent: bool = True) -> int:
        """Take up to `want` blocks from the tail of a leaf that is not in use."""
        blocks, edge, digests = node.blocks, node.edge, node.digests
        count = len(blocks) // BLOCK_BYTES
        keep = 1 if self.held and first_block(blocks) in self.held else 0
        if digests is not None:
            assert node.parent is not None
            assert node.parent.digests is not None
            namespace, before = self.namespace(node), node.parent.digests
        if want >= count and not keep:
            left = 0
            self._unlink(node)
        else:
            left = max(count - want, keep)
            if left == count:
                return 0  # all of it is held; it is pushed again when that is let go
            if len(edge) > LONG_BYTES and left * self.block_bytes > LONG_BYTES:
                self.split(node, left - LONG_BYTES // (2 * self.block_bytes))
                return self.shrink(node, want, urgent=urgent)
            node.blocks = blocks[: left * BLOCK_BYTES]
            node.edge = edge[: left * self.block_bytes]
            self.num_tokens -= (count - left) * self.block_size
            if left > keep:
                self.queue.push(node)
        taken = blocks[left * BLOCK_BYTES :]
        self.num_evictable -= count - left
        if digests is None:  # not kept, or a partial tail, which is of no use outside the process
            self.allocator.free(taken)
        else:
            gone = digests[left:]
            del digests[left:]
            parent = (digests or before)[-1]
            self._removed(namespace, parent, gone, edge[left * self.block_bytes :], taken, urgent)
        return count - left

    def _removed(
        self,
        namespace: Namespace,
        parent: bytes,
        digests: list[bytes],
        tokens: bytes,
        blocks: bytes,
        urgent: bool,
    ) -> None:
        """Tell of blocks that left the tree, and free those that the sink does not hold."""
        if self.events is not None:
            self.events.removed(namespace, digests)
        if self.draining.has_sink:
            evicted = EvictedBlocks(namespace, parent, tuple(digests), tokens, tuple(block_ids(blocks)))
            self.draining.evicted(evicted, blocks, urgent=urgent)
        else:
            self.allocator.free(blocks)

    def _unlink(self, node: Node) -> None:
        """Take a leaf out of the tree; its parent inherits its use and may be the next candidate."""
        parent = node.parent
        assert parent is not None
        remove_child(parent, node)
        node.parent = None
        self.num_tokens -= len(node.edge) // TOKEN_BYTES
        self.num_unfilled -= -len(node.edge) % self.block_bytes // TOKEN_BYTES
        self.queue.removed(node)
        parent.last_use = max(parent.last_use, node.last_use)
        parent.uses += node.uses
        if parent.children is None and not parent.locks:
            if parent.parent is None:
                self.drop_if_empty(parent)
            else:
                self.queue.push(parent)

    def clear(self) -> None:
        """Forget everything; no lease may be live.  The blocks are the caller's to take back."""
        self.roots.clear()
        self.held.clear()
        self.queue.clear()
        self.num_evictable = self.num_tokens = self.num_unfilled = 0
