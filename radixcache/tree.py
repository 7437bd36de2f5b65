"""The radix tree: which prefixes are published, in which blocks, and which of them are in use."""

from __future__ import annotations

from itertools import islice

from sortedcontainers import SortedList

from radixcache.blocks import BlockAllocator
from radixcache.events import BlocksRemoved, BlocksStored, CacheEvent, block_digests, namespace_digest
from radixcache.eviction import EvictionQueue
from radixcache.namespaces import Namespace
from radixcache.node import Match, Node, Root
from radixcache.tokens import TOKEN_BYTES, common_prefix

Buffer = bytes | bytearray
_APPEND_BYTES = 1 << 14  # an edge longer than this is continued in a child, not copied to be extended
_SHRINK_BYTES = 1 << 16  # an edge longer than this is cut in two before its tail is taken bit by bit


class RadixTree:
    """Radix trees over packed tokens, one a namespace, sharing one pool of blocks.

    Costs, with d nodes on the path and n siblings: a match is O(length) bytes of memcmp and
    O(d + log n + log edge) Python steps, publishing is a match of what is new, and taking a
    lock stops at the first ancestor that is locked already.
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
        self.num_published = 0  # blocks that entered, ever
        self.num_duplicates = 0  # blocks swapped for a published one, ever
        self.num_evicted = 0  # blocks, ever
        self.events = events  # what happened is appended here; None keeps no account
        self._clock = 0

    # ---------------------------------------------------------------- reading

    def root(self, namespace: Namespace) -> Root:
        """The root of a namespace, made if it is new."""
        root = self.roots.get(namespace)
        if root is None:
            root = self.roots[namespace] = Root(namespace)
            if self.events is not None:
                root.digests = [namespace_digest(namespace)]
        return root

    def match(self, root: Node, query: bytes, end: int) -> Match:
        """Find the longest published prefix of `query[:end]` (bytes); changes no topology."""
        size = self.block_bytes
        node, pos = root, 0
        while pos + size <= end and (children := node.children):
            child = children.get(query[pos : pos + size])
            if child is None:
                break
            edge = child.edge
            length = len(edge)
            if pos + length <= end and (length == size or query.startswith(edge, pos)):
                node = child
                pos += length
                continue
            common = common_prefix(query, edge, pos, 0, (end - pos) // TOKEN_BYTES)
            blocks, partial = divmod(common, self.block_size)
            whole = pos // TOKEN_BYTES + common - partial
            return Match(child, blocks, whole, child if partial else None, partial)
        source, partial = None, 0
        if size > TOKEN_BYTES and pos < end and node.children:
            source, partial = self._nearest(node, query[pos : min(pos + size, end)])
        return Match(node, len(node.blocks), pos // TOKEN_BYTES, source, partial)

    def _nearest(self, node: Node, rest: bytes) -> tuple[Node | None, int]:
        """The child with the longest common prefix with `rest`, and its length in tokens.

        In a sorted set of byte strings the longest common prefix with a query is had by one of
        the query's two neighbours, whatever the strings mean; and tokens in common are bytes in
        common divided by four, rounded down.
        """
        children = node.children
        assert children
        if len(children) == 1:
            (child,) = children.values()
            partial = common_prefix(rest, child.edge)
            return (child, partial) if partial else (None, 0)
        best, longest = b"", 0
        for key in self._neighbours(node, rest):
            if key[:TOKEN_BYTES] == rest[:TOKEN_BYTES]:
                partial = common_prefix(rest, key)
                if partial > longest:
                    best, longest = key, partial
        return (children[best], longest) if longest else (None, 0)

    def _neighbours(self, node: Node, key: bytes) -> list[bytes]:
        """The children's keys next to `key` in byte order: the one before it, and it or the one after."""
        order = node.order
        if order is None:
            assert node.children
            order = node.order = SortedList(node.children)
        # irange bisects; islice would find the rank first, and for that index all siblings anew.
        before = order.irange(maximum=key, inclusive=(True, False), reverse=True)
        after = order.irange(minimum=key)
        return [*islice(before, 1), *islice(after, 1)]

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
        blocks = node.blocks
        return len(blocks) - (1 if self.held and blocks and blocks[0] in self.held else 0)

    # ---------------------------------------------------------------- locks

    def lock(self, node: Node) -> None:
        """A lease ends at `node` now: neither it nor an ancestor can be evicted."""
        at: Node | None = node
        while at is not None:
            at.locks += 1
            if at.locks > 1:
                return
            self.num_evictable -= self.contribution(at)
            at = at.parent

    def unlock(self, node: Node) -> None:
        """Take back one `lock`."""
        at: Node | None = node
        while at is not None:
            at.locks -= 1
            if at.locks:
                return
            self.num_evictable += self.contribution(at)
            if at.parent is None:
                self._drop_if_empty(at)
            elif not at.children:
                self.queue.push(at)
            at = at.parent

    def hold(self, node: Node) -> int:
        """Keep the first block of `node` until it is let go; returns the block."""
        block = node.blocks[0]
        self.allocator.share(block)
        if block not in self.held:
            self.held[block] = node
            if not node.locks:
                self.num_evictable -= 1
        return block

    def let_go(self, block: int) -> None:
        """Drop one reference to a block that the tree may own, too."""
        self.allocator.drop((block,))
        if block in self.held and block not in self.allocator.extra:
            node = self.held.pop(block)
            if not node.locks:
                self.num_evictable += 1
                if not node.children:
                    self.queue.push(node)

    def drop_private(self, blocks: list[int]) -> None:
        """Drop one reference to each block of a lease past what it has published.

        Its tail may be shared with a fork that has published it.
        """
        if self.held:
            for block in blocks:
                self.let_go(block)
        else:
            self.allocator.drop(blocks)

    def touch(self, node: Node) -> None:
        """A lease that ended at `node` was released.

        Ancestors are not visited: what they were used for is known from their descendants, and
        is handed up when those leave (`_unlink`), before it can matter.
        """
        if node.parent is None:
            return
        self._clock += 1
        node.last_use = self._clock
        node.uses += 1
        self.queue.policy.used(node)

    # ---------------------------------------------------------------- growing

    def split(self, node: Node, blocks: int) -> Node:
        """Cut a node after its first `blocks` blocks; returns the new upper part.

        The lower part stays the same object, so leases that end there go on doing so.
        """
        parent = node.parent
        assert parent is not None
        assert parent.children is not None
        cut = blocks * self.block_bytes
        edge = node.edge
        upper = Node(parent, edge[:cut], node.blocks[:blocks], node.depth)
        upper.locks = 1 if node.locks else 0
        upper.children = {edge[cut : cut + self.block_bytes]: node}
        if node.digests is not None:
            upper.digests = node.digests[:blocks]
            node.digests = node.digests[blocks:]
        parent.children[edge[: self.block_bytes]] = upper
        node.parent = upper
        node.edge = edge[cut:]
        node.blocks = node.blocks[blocks:]
        node.depth += blocks * self.block_size
        if self.held and upper.blocks[0] in self.held:
            self.held[upper.blocks[0]] = upper
        self.queue.split(upper, node)
        return upper

    def publish(self, node: Node, tokens: Buffer, table: list[int], start: int, stop: int) -> Node:
        """Publish blocks `start` to `stop` of a sequence, whose lease ends at `node`.

        The lock moves to the node returned.  Blocks that are published already are swapped in
        `table` for the published ones, and the lease's own are dropped.
        """
        size = self.block_bytes
        pos, end = start * size, stop * size
        while pos < end:
            children = node.children
            if not children:
                break
            key = bytes(tokens[pos : pos + size])
            child = children.get(key)
            if child is None:
                if size > TOKEN_BYTES:
                    self._supersede(node, key)
                break
            count = min(len(child.blocks), (end - pos) // size)
            if count > 1:
                count = common_prefix(tokens, child.edge, pos, 0, count * self.block_size) // self.block_size
            if count < len(child.blocks):
                child = self.split(child, count)
            first = pos // size
            self.allocator.drop(table[first : first + count])
            table[first : first + count] = child.blocks
            self.num_duplicates += count
            child.locks += 1
            if child.locks == 1:
                self.num_evictable -= self.contribution(child)
            else:
                node.locks -= 1
            node = child
            pos += count * size
        if pos < end:
            node = self._grow(node, bytes(tokens[pos:end]), table[pos // size : stop])
        return node

    def _grow(self, node: Node, edge: bytes, blocks: list[int]) -> Node:
        """Add new blocks after `node`, whose one lease moves with them, and return where they ended."""
        self.num_published += len(blocks)
        self.num_tokens += len(edge) // TOKEN_BYTES
        digests = None if self.events is None else self._stored(node, edge)
        if (
            node.locks == 1
            and not node.children
            and node.parent is not None
            and len(node.edge) <= _APPEND_BYTES
        ):
            if node.digests is not None and digests is not None:
                node.digests += digests
            node.edge += edge
            node.blocks += blocks
            return node
        child = self._add_child(node, edge, blocks)
        child.digests = digests
        child.locks = 1  # takes over from the lease that ended at `node`
        return child

    def publish_tail(self, node: Node, tail: bytes, block: int) -> bool:
        """Publish a block that is not full after `node`, whose lease ends, as a tail of its own.

        Returns False if a published block begins with the same tokens: the caller keeps `block`.
        A published tail that the new one begins with is superseded and removed, so no tail of a
        node is a prefix of any of its other children.
        """
        if node.children:
            for key in self._candidates(node, tail):
                if key.startswith(tail):
                    known = node.children[key]
                    self.touch(known if len(key) < self.block_bytes else node)
                    return False
            self._supersede(node, tail)
        self.num_published += 1
        self.num_tokens += len(tail) // TOKEN_BYTES
        child = self._add_child(node, tail, [block])
        self.touch(child)
        if block in self.allocator.extra:
            self.held[block] = child
        else:
            self.num_evictable += 1
            self.queue.push(child)
        return True

    def _candidates(self, node: Node, key: bytes) -> list[bytes]:
        assert node.children
        return list(node.children) if len(node.children) == 1 else self._neighbours(node, key)

    def _supersede(self, node: Node, key: bytes) -> None:
        """Remove the tail after `node` that `key` begins with; there is at most one, just before it."""
        for other in self._candidates(node, key):
            if len(other) < len(key) and key.startswith(other):
                assert node.children is not None
                tail = node.children[other]
                if not self.held or tail.blocks[0] not in self.held:
                    self.num_evictable -= 1
                else:
                    del self.held[tail.blocks[0]]
                self._unlink(tail)
                self.allocator.drop(tail.blocks)
                return

    def _add_child(self, node: Node, edge: bytes, blocks: list[int]) -> Node:
        child = Node(node, edge, blocks, node.depth + len(node.edge) // TOKEN_BYTES)
        key = edge[: self.block_bytes]
        if node.children is None:
            node.children = {key: child}
        else:
            node.children[key] = child
            if node.order is not None:
                node.order.add(key)
        return child

    def _stored(self, node: Node, edge: bytes) -> list[bytes]:
        assert self.events is not None
        assert node.digests is not None
        parent = node.digests[-1]
        digests = block_digests(parent, edge, self.block_bytes)
        self.events.append(BlocksStored(self.namespace(node), parent, tuple(digests), edge))
        return digests

    # ---------------------------------------------------------------- shrinking

    def evict(self, count: int, *, spare: bool) -> int:
        """Free up to `count` blocks in order of leaving; with `spare` no pinned ones."""
        freed = 0
        while freed < count:
            node = self.queue.pop(spare=spare)
            if node is None:
                break
            freed += self._shrink(node, count - freed)
        self.num_evicted += freed
        return freed

    def _shrink(self, node: Node, want: int) -> int:
        """Take up to `want` blocks from the tail of a leaf that is not in use."""
        blocks = node.blocks
        keep = 1 if self.held and blocks[0] in self.held else 0
        if self.events is not None:
            namespace = self.namespace(node)
        if want >= len(blocks) and not keep:
            self._unlink(node)
            taken, digests = blocks, node.digests
        else:
            left = max(len(blocks) - want, keep)
            if left == len(blocks):
                return 0  # all of it is held; it is pushed again when that is let go
            if len(node.edge) > _SHRINK_BYTES and left * self.block_bytes > _SHRINK_BYTES:
                self.split(node, left - _SHRINK_BYTES // (2 * self.block_bytes))
                return self._shrink(node, want)
            taken = blocks[left:]
            del blocks[left:]
            node.edge = node.edge[: left * self.block_bytes]
            self.num_tokens -= len(taken) * self.block_size
            digests = None
            if node.digests is not None:
                digests = node.digests[left:]
                del node.digests[left:]
            if left > keep:
                self.queue.push(node)
        self.num_evictable -= len(taken)
        self.allocator.free(taken)
        if self.events is not None and digests:
            self.events.append(BlocksRemoved(namespace, tuple(digests)))
        return len(taken)

    def _unlink(self, node: Node) -> None:
        """Take a leaf out of the tree; its parent inherits its use and may be the next candidate."""
        parent = node.parent
        assert parent is not None
        assert parent.children is not None
        key = node.edge[: self.block_bytes]
        del parent.children[key]
        if parent.order is not None:
            parent.order.remove(key)
        node.parent = None
        self.num_tokens -= node.num_tokens
        self.queue.removed(node)
        parent.last_use = max(parent.last_use, node.last_use)
        parent.uses += node.uses
        if not parent.children and not parent.locks:
            if parent.parent is None:
                self._drop_if_empty(parent)
            else:
                self.queue.push(parent)

    def _drop_if_empty(self, node: Node) -> None:
        if not node.children and isinstance(node, Root):
            del self.roots[node.namespace]

    def clear(self) -> None:
        """Forget everything; no lease may be live.  The blocks are the caller's to take back."""
        self.roots.clear()
        self.held.clear()
        self.queue.clear()
        self.num_evictable = self.num_tokens = 0
