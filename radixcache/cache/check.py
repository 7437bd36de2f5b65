"""A full check of the cache's structure, for tests and for hunting a bug; O(everything cached)."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

from radixcache.cache.blocks import block_ids
from radixcache.cache.eviction import is_candidate
from radixcache.cache.lease import Lease
from radixcache.cache.namespaces import Namespace
from radixcache.cache.node import Node
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.cache.siblings import around
from radixcache.tokens import TOKEN_BYTES


def check_invariants(cache: PrefixCache) -> None:
    """Verify everything that must hold between two calls; AssertionError says what does not.

    1. Every block is free, referenced or draining, and only one of these.
    2. A block has one owner, the tree or leases, and as many extra references as there are forks
       that share it and copies that wait for it.
    3. The path to a lease's node has exactly the lease's published blocks and their tokens.
    4. Locks, gauges, sorted orders, digests and pins agree with what is in the tree.
    5. Whatever could be evicted is known to the eviction queue.
    """
    store = cache.store
    leases = [lease for group in store.live.values() for lease in group if isinstance(lease, Lease)]
    published = _check_tree(cache, leases)
    references: Counter[int] = Counter(published)
    for lease in leases:
        _check_lease(cache, lease)
        references.update(list(lease.private_blocks()))
        references.update(copy.source for copy in lease.copies)
    assert max(published.values(), default=1) == 1, "a block is published twice"
    draining = store.draining.blocks
    free = store.allocator.free_ids()
    assert len(set(free)) == len(free) == cache.num_blocks - store.allocator.num_owned, (
        "a block was freed twice"
    )
    assert not set(free) & set(references), "a block is free and referenced"
    assert not draining & (set(free) | set(references)), "a draining block is free or referenced"
    assert set(free) | set(references) | draining == set(range(cache.num_blocks)), "a block leaked"
    extra = {block: count - 1 for block, count in references.items() if count > 1}
    assert store.allocator.extra == extra, f"extra references are {store.allocator.extra}, not {extra}"
    assert set(cache.store.tree.held) == set(extra) & set(published), "held blocks are wrong"
    used = cache.num_evictable_blocks + cache.num_protected_blocks + cache.num_draining_blocks
    assert used == store.allocator.num_owned, "evictable + protected + draining is not what the cache has"
    assert len(set(references) - _evictable(cache)) == cache.num_protected_blocks, (
        "protected blocks are wrong"
    )
    for node, pins in cache.store.queue.pinned().items():
        assert node.parent is not None, "a node that left the tree is pinned"
        assert pins, "a node without pins is listed as pinned"
        assert all(node in pin.nodes for pin in pins), "a pin and its nodes disagree"


def nodes(cache: PrefixCache) -> Iterator[tuple[Namespace, bytes, Node]]:
    """Every node below the roots, with its namespace and all tokens from the root to its end."""
    for namespace, root in cache.store.tree.roots.items():
        stack = [(b"", child) for child in root.children or ()]
        while stack:
            before, node = stack.pop()
            tokens = before + node.edge
            yield namespace, tokens, node
            stack += [(tokens, child) for child in node.children or ()]


def _check_tree(cache: PrefixCache, leases: list[Lease]) -> Counter[int]:
    tree, size = cache.store.tree, cache.store.tree.block_bytes
    ends = Counter(id(lease.node) for lease in leases)
    published: Counter[int] = Counter()
    evictable = tokens = 0
    for root in tree.roots.values():
        assert root.children or root.locks, "an empty namespace was kept"
        _check_children(root, size)
        assert root.locks == ends[id(root)] + _locked_children(root), "a root's locks are wrong"
    for _, path, node in nodes(cache):
        whole = len(node.edge) % size == 0
        assert node.blocks, "a node without blocks"
        assert node.num_blocks == -(-len(node.edge) // size), "edge and blocks disagree"
        assert whole or (node.num_blocks == 1 and not node.children and not node.locks), "a bad tail"
        assert node.depth * TOKEN_BYTES == len(path) - len(node.edge), "a node's depth is wrong"
        assert node.locks == ends[id(node)] + _locked_children(node), "a node's locks are wrong"
        assert (node.digests is not None) == (tree.named and whole), "digests are wrong"
        assert node.digests is None or len(node.digests) == node.num_blocks, "digests and blocks disagree"
        _check_children(node, size)
        published.update(block_ids(node.blocks))
        tokens += node.num_tokens
        for index, block in enumerate(block_ids(node.blocks)):
            if block in cache.store.allocator.extra:
                assert index == 0, "a held block is not at its node's head"
                assert tree.held.get(block) is node, "a held block is not listed under its node"
                assert node.parent is not None
                assert node.parent.locks, "a held block's parent is not locked"
        if not node.locks:
            evictable += tree.contribution(node)
        if is_candidate(node) and tree.contribution(node):
            assert cache.store.queue.knows(node), "a candidate is not queued"
    assert evictable == tree.num_evictable, f"{tree.num_evictable} evictable, counted {evictable}"
    assert tokens == tree.num_tokens, f"{tree.num_tokens} tokens, counted {tokens}"
    return published


def _evictable(cache: PrefixCache) -> set[int]:
    held = cache.store.tree.held
    return {
        b for _, _, node in nodes(cache) if not node.locks for b in block_ids(node.blocks) if b not in held
    }


def _locked_children(node: Node) -> int:
    return sum(1 for child in node.children or () if child.locks)


def _check_children(node: Node, size: int) -> None:
    children = list(node.children or ())
    assert node.children is None or children, "an empty list of children was kept"
    for child in children:
        assert child.parent is node, "a child has another parent"
        before, at = around(node.children or [], child.edge)
        assert at is child, "a child is not found"
        assert before is None or before.edge < child.edge, "the children are out of order"
    for child, following in itertools.pairwise(children):
        assert child.edge[:size] < following.edge[:size], "the children are out of order"
        assert not following.edge.startswith(child.edge[:size]), "a tail is a prefix of its sibling"


def _check_lease(cache: PrefixCache, lease: Lease) -> None:
    path = cache.store.tree.path(lease.node)
    blocks = [block for node in path for block in block_ids(node.blocks)]
    assert blocks == lease.block_table[: len(blocks)], "a lease's table does not follow its path"
    assert lease.tokens.startswith(b"".join(node.edge for node in path)), "a lease is on the wrong path"
    assert len(lease.block_table) == -(-lease.num_tokens // cache.block_size), "blocks do not fit the tokens"
    assert lease.num_tokens * TOKEN_BYTES == len(lease.buffer), "a lease miscounts its tokens"
    assert set(lease.fresh_blocks) <= set(lease.block_table), "a fresh block is not the lease's"
    assert lease.num_computed_tokens <= lease.num_tokens, "more is computed than there is"
    at = lease.num_computed_tokens
    for load in lease.loads:
        assert load.start == at, "loads have a gap"
        assert at % cache.block_size == 0, "a load does not begin with a block"
        assert load.target == lease.block_table[at // cache.block_size], "a load goes to another's block"
        assert 0 < load.num_tokens <= cache.block_size, "a load counts what it does not hold"
        at += load.num_tokens
    assert not (lease.loads and lease.copies), "a copy and a load of one block"
    assert len(lease.private_blocks()) == len(lease.block_table) - len(blocks), "a private block is published"
