"""What `acquire` will do for a prompt: what is reused, copied, loaded and allocated, and why the rest missed.

Planning changes nothing and may fail; carrying a plan out does not fail.
"""

from __future__ import annotations

from radixcache.cache.blocks import BLOCK_BYTES, first_block
from radixcache.cache.digest import namespace_digest
from radixcache.cache.loads import LoadDecision, LoadPlan, find_lower, wanted_tokens
from radixcache.cache.misses import Explanation, MissReason, explain, furthest_running
from radixcache.cache.namespaces import Namespace
from radixcache.cache.node import Match, Node
from radixcache.cache.store import BlockStore
from radixcache.tokens import TOKEN_BYTES

_CACHE_OFF = str(MissReason.CACHE_OFF)
_LAST_TOKEN = str(MissReason.LAST_TOKEN)
_LOAD_DECLINED = str(MissReason.LOAD_DECLINED)
_NEVER_SEEN = str(MissReason.NEVER_SEEN)


# How a prompt is served:
# - the deepest node reused with whole blocks; None for the root of a new namespace,
# - how many of its edge's blocks are reused,
# - the reused whole blocks, a packed row for each node down to that one,
# - how many these are,
# - the node whose first block, or the block after the reused ones, is copied from; None for no copy,
# - how many tokens are copied,
# - how many blocks are allocated,
# - tokens reused, by sharing, copying and loading,
# - tokens not reused, by reason,
# - the token index at which the prompt left everything seen before, or None,
# - what lower tiers hold beyond the whole blocks, if anything.
# A plain tuple, as one is made for every request.
Plan = tuple[
    Node | None,
    int,
    list[bytes],
    int,
    Node | None,
    int,
    int,
    int,
    dict[str, int],
    int | None,
    LoadPlan | None,
]


def plan_prompt(
    store: BlockStore,
    packed: bytes,
    namespace: Namespace,
    limit: int,
    recompute_last: bool,
    load: LoadDecision | None,
) -> Plan:
    """Plan how to serve a prompt of which the first `limit` bytes may be reused.

    Raises:
        OutOfBlocksError: too few blocks are free or evictable.
        ValueError: `load` does not return a number of tokens.
    """
    tree = store.tree
    end = len(packed)
    node: Node | None = tree.roots.get(namespace)
    reads = store.enabled and limit > 0
    blocks = whole = partial = kept = 0
    source: Node | None = None
    path: list[bytes] = []
    match: Match | None = None
    lower: LoadPlan | None = None
    full = False
    if reads:
        if node is not None:
            match = tree.match(node, packed, limit)
            if recompute_last and (match[2] + match[4]) * TOKEN_BYTES == end:
                full = True
                match = tree.without_last(match)
            node, blocks, whole, source, partial, path = match
            kept = whole // store.block_size
        if store.lower is not None and not full:
            most = (min(limit, end - TOKEN_BYTES) if recompute_last else limit) // TOKEN_BYTES
            lower = _plan_loads(store, packed, namespace, node, blocks, whole, partial, most, load)
    matched = cached = whole + partial
    if lower is not None and lower.num_tokens:
        source, partial, cached = None, 0, whole + lower.num_tokens
    needed = -(-end // tree.block_bytes) - kept
    if needed + kept + 1 > store.allocator.num_free + tree.num_evictable:  # the path's are counted in
        fits, fits_copy = room(store, node, blocks, source)
        if needed > fits_copy and source is not None:
            source, partial, cached = None, 0, whole
        if needed > fits:
            raise store.out_of_blocks(needed, fits)
    diverged_at = None
    tokens = end // TOKEN_BYTES
    if lower is not None:
        misses, diverged_at = _explain_loads(store, packed, namespace, limit, recompute_last, cached, lower)
    elif not reads or (limit < end and matched * TOKEN_BYTES == limit):
        misses = {_CACHE_OFF: tokens - cached}
    elif full and matched == cached:
        misses = {_LAST_TOKEN: 1}
    elif store.history is None:
        misses = {_NEVER_SEEN: tokens - cached} if tokens > cached else {}
    else:
        misses, diverged_at = explain(
            tokens,
            cached,
            0,
            matched - cached,
            match is not None and tree.continues(match),
            store.history.lookup(packed, namespace),
            furthest_running(store.live.get(namespace, ()), packed, matched),
        )
    return node, blocks, path, kept, source, partial, needed, cached, misses, diverged_at, lower


def _explain_loads(
    store: BlockStore,
    packed: bytes,
    namespace: Namespace,
    limit: int,
    recompute_last: bool,
    cached: int,
    lower: LoadPlan,
) -> Explanation:
    """Why tokens were missed of a prompt of which lower tiers hold more than the pool."""
    tokens = len(packed) // TOKEN_BYTES
    known = lower.hit.start + lower.hit.num_tokens
    if known * TOKEN_BYTES == limit < len(packed):
        reason = _CACHE_OFF
    elif recompute_last and lower.hit.end == tokens:
        reason = _LAST_TOKEN
    elif store.history is None:
        reason = _NEVER_SEEN
    else:
        return explain(
            tokens,
            cached,
            known - cached,
            0,
            False,
            store.history.lookup(packed, namespace),
            furthest_running(store.live.get(namespace, ()), packed, known),
        )
    misses = {_LOAD_DECLINED: known - cached, reason: tokens - known}
    return Explanation({reason: missed for reason, missed in misses.items() if missed}, None)


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
