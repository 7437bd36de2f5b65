"""What `acquire` will do for a prompt: what is reused, copied, loaded and allocated, and why the rest missed.

Planning changes nothing and may fail; carrying a plan out does not fail.
"""

from __future__ import annotations

from typing import NamedTuple

from radixcache.cache.blocks import BLOCK_BYTES, first_block
from radixcache.cache.digest import namespace_digest
from radixcache.cache.loads import LoadDecision, LoadPlan, find_lower, wanted_tokens
from radixcache.cache.misses import MissReason, explain, furthest_running
from radixcache.cache.namespaces import Namespace
from radixcache.cache.node import Match, Node
from radixcache.cache.store import BlockStore
from radixcache.tokens import TOKEN_BYTES

_CACHE_OFF = str(MissReason.CACHE_OFF)
_LAST_TOKEN = str(MissReason.LAST_TOKEN)
_LOAD_DECLINED = str(MissReason.LOAD_DECLINED)
_NEVER_SEEN = str(MissReason.NEVER_SEEN)


class Plan(NamedTuple):
    """How a prompt is served.

    Attributes:
        node: the deepest node reused with whole blocks; None for the root of a new namespace.
        blocks: how many of its edge's blocks are reused.
        path: the reused whole blocks, a packed row for each node down to `node`.
        kept: how many these are.
        source: the node whose first block, or the block after `blocks`, is copied from; None for no copy.
        copied: tokens to copy from it.
        needed: blocks to allocate.
        cached: tokens reused, by sharing, copying and loading.
        misses: tokens not reused, by reason.
        diverged_at: see `Lease`.
        lower: what lower tiers hold beyond `kept`, if anything.
    """

    node: Node | None
    blocks: int
    path: list[bytes]
    kept: int
    source: Node | None
    copied: int
    needed: int
    cached: int
    misses: dict[str, int]
    diverged_at: int | None
    lower: LoadPlan | None


def plan_prompt(
    store: BlockStore,
    packed: bytes,
    namespace: Namespace,
    limit: int,
    *,
    recompute_last: bool,
    load: LoadDecision | None,
) -> Plan:
    """Plan the service of a prompt of which the first `limit` bytes may be reused.

    Raises:
        OutOfBlocksError: too few blocks are free or evictable.
        ValueError: `load` does not return a number of tokens.
    """
    tree = store.tree
    end = len(packed)
    node: Node | None = tree.roots.get(namespace)
    reads = store.enabled and limit > 0
    blocks = whole = partial = 0
    source: Node | None = None
    path: list[bytes] = []
    match: Match | None = None
    lower: LoadPlan | None = None
    full = False
    if node is not None and reads:
        match = tree.match(node, packed, limit)
        if recompute_last and (match[2] + match[4]) * TOKEN_BYTES == end:
            full = True
            match = tree.match(node, packed, end - TOKEN_BYTES)
        node, blocks, whole, source, partial, path = match
    matched = cached = known = whole + partial
    if store.lower is not None and reads and not full:
        most = (min(limit, end - TOKEN_BYTES) if recompute_last else limit) // TOKEN_BYTES
        lower = _plan_loads(store, packed, namespace, node, blocks, whole, partial, most, load)
        if lower is not None:
            known = whole + lower.hit.num_tokens
            if lower.num_tokens:
                source, partial, cached = None, 0, whole + lower.num_tokens
    kept = whole // store.block_size
    needed = -(-end // tree.block_bytes) - kept
    if needed + kept + 1 > store.allocator.num_free + tree.num_evictable:  # the path's are counted in
        fits, fits_copy = room(store, node, blocks, source)
        if needed > fits_copy and source is not None:
            source, partial, cached = None, 0, whole
        if needed > fits:
            raise store.out_of_blocks(needed, fits)
    diverged_at = None
    tokens, declined = end // TOKEN_BYTES, known - cached if lower else 0
    if not reads or (limit < end and known * TOKEN_BYTES == limit):
        misses = _missed(tokens - cached, declined, _CACHE_OFF)
    elif (full and matched == cached) or (lower and recompute_last and lower.hit.end == tokens):
        misses = _missed(tokens - cached, declined, _LAST_TOKEN)
    elif store.history is None:
        misses = _missed(tokens - cached, declined, _NEVER_SEEN)
    else:
        continues = lower is None and match is not None and tree.continues(match)
        misses, diverged_at = explain(
            tokens,
            cached,
            declined,
            known - cached - declined,
            continues,
            store.history.lookup(packed, namespace),
            furthest_running(store.live.get(namespace, ()), packed, known),
        )
    return Plan(node, blocks, path, kept, source, partial, needed, cached, misses, diverged_at, lower)


def room(store: BlockStore, node: Node | None, blocks: int, source: Node | None) -> tuple[int, int]:
    """Blocks that are available once a match is locked, and once its source is held, too."""
    tree = store.tree
    left = store.num_available
    if node is None:
        return left, left
    if not node.locks:
        # of a node matched in part the rest stays evictable
        left -= blocks
        if tree.held and blocks and first_block(node.blocks) in tree.held:
            left += 1
        at = node.parent
        while at is not None and not at.locks:
            left -= tree.contribution(at)
            at = at.parent
    if source is None or source.locks:
        return left, left
    at_block = blocks * BLOCK_BYTES if source is node else 0
    held = tree.held and first_block(source.blocks[at_block : at_block + BLOCK_BYTES]) in tree.held
    return left, left if held else left - 1


def _plan_loads(
    store: BlockStore,
    packed: bytes,
    namespace: Namespace,
    node: Node | None,
    blocks: int,
    whole: int,
    partial: int,
    limit: int,
    load: LoadDecision | None,
) -> LoadPlan | None:
    assert store.lower is not None
    if node is None:
        parent = namespace_digest(namespace)
    else:
        assert node.digests is not None
        parent = node.digests[blocks - 1]  # of a root, which has no blocks, the namespace's own
    found = find_lower(store.lower, namespace, packed, parent, whole, partial, limit, store.block_size)
    if found is None:
        return None
    hit, digests = found
    return LoadPlan(hit, wanted_tokens(hit, load, store.block_size), digests)


def _missed(tokens: int, declined: int, reason: str) -> dict[str, int]:
    misses = {_LOAD_DECLINED: declined} if declined else {}
    if tokens > declined:
        misses[reason] = tokens - declined
    return misses
