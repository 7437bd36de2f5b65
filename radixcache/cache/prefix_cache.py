"""The prefix cache: leases on blocks in, reuse and evictions out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from radixcache.cache.blocks import BLOCK_BYTES, BlockAllocator, block_ids, first_block
from radixcache.cache.draining import EvictionSink
from radixcache.cache.events import CacheSnapshot, EventCallback
from radixcache.cache.eviction import (
    PIN_PRIORITY,
    EvictionPolicy,
    EvictionQueue,
    Pin,
    Retention,
    make_policy,
)
from radixcache.cache.history import History
from radixcache.cache.lease import BlockCopy, Lease
from radixcache.cache.loads import LoadDecision, LowerTiers, block_loads
from radixcache.cache.namespaces import Namespace, check_namespace
from radixcache.cache.pinning import retain
from radixcache.cache.plan import Plan, plan_prompt, room
from radixcache.cache.stats import CacheStats
from radixcache.cache.store import BlockStore, ReleaseCallback, SeenIndex
from radixcache.cache.supplied import BlockSupply, SuppliedAllocator
from radixcache.errors import CacheInUseError, OutOfBlocksError
from radixcache.ranges import check_bool, check_int
from radixcache.tokens import TOKEN_BYTES, TOKEN_LIMIT, pack

_HISTORY_POOLS = 4  # the history remembers this many times the tokens of the pool
_HISTORY_TOKENS = 1 << 16  # and at least this many


class PrefixCache:
    """A pool of KV blocks and the radix tree that says which prefixes they hold.

    The cache knows token ids and block ids and never touches KV itself: the code that computes it takes
    a lease, does the lease's copies, computes what is not cached into the lease's blocks, and
    commits.  Reuse is token-granular while storage is block-granular: the last block that matches
    in part is copied.

    Not thread-safe: one thread calls the cache and its leases, and a callback must not call back.

    Args:
        num_blocks: blocks in the pool, ids 0 to num_blocks - 1.
        block_size: tokens a block holds.
        policy: eviction policy; a name in `radixcache.cache.eviction.policies` or an object.
        enabled: with False nothing is reused or published.
        explain: find out why tokens missed, which takes a history of what was computed (4 bytes a
            distinct token, at most four times the pool).  With False tokens that are simply not cached
            count as `never_seen`.
        history: what remembers the sequences for `explain`; None for a `History`.
        on_event: called with what was stored and removed after each call that did so; with None, no
            `sink` and no `lower` no digest is computed.
        on_release: called with every lease that is released, before its sequence enters the history.
        allocator: takes and gives the pool's blocks in place of a free list of the cache's own.
        sink: is offered blocks that are evicted, to copy their contents elsewhere.
        lower: what is kept outside the pool; asked by `acquire`.
        clock: seconds, for times to live.

    Raises:
        ValueError: a size that is no integer or below 1, an unknown policy, or a policy object that
            another cache uses; names the argument and its value.
    """

    def __init__(
        self,
        num_blocks: int,
        block_size: int = 16,
        *,
        policy: str | EvictionPolicy = "lru",
        enabled: bool = True,
        explain: bool = True,
        history: SeenIndex | None = None,
        on_event: EventCallback | None = None,
        on_release: ReleaseCallback | None = None,
        allocator: BlockSupply | None = None,
        sink: EvictionSink | None = None,
        lower: LowerTiers | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.num_blocks = num_blocks = check_int("num_blocks", num_blocks, least=1, most=TOKEN_LIMIT)
        self.block_size = block_size = check_int("block_size", block_size, least=1, most=TOKEN_LIMIT)
        self.enabled = check_bool("enabled", enabled)
        check_bool("explain", explain)
        for name, call in (("on_event", on_event), ("on_release", on_release), ("clock", clock)):
            if call is not None and not callable(call):
                raise ValueError(f"{name} must be callable, got {call!r}")
        for name, seam, methods in (
            ("allocator", allocator, ("allocate", "free", "num_free")),
            ("sink", sink, ("offer", "reclaim")),
            ("lower", lower, ("match",)),
        ):
            if seam is not None and not all(hasattr(seam, method) for method in methods):
                raise ValueError(f"{name} must have {', '.join(methods)}, got {seam!r}")
        chosen = make_policy(policy)
        chosen.bind(num_blocks, block_size)
        if explain and history is None:
            history = History(max(_HISTORY_POOLS * num_blocks * block_size, _HISTORY_TOKENS))
        self.store = BlockStore(
            block_size,
            BlockAllocator(num_blocks) if allocator is None else SuppliedAllocator(num_blocks, allocator),
            EvictionQueue(chosen, clock),
            enabled=enabled,
            history=history if explain else None,
            on_event=on_event,
            on_release=on_release,
            sink=sink,
            lower=lower,
        )
        self._clock = clock

    # ---------------------------------------------------------------- requests

    def acquire(
        self,
        tokens: Sequence[int] | Any,
        namespace: Namespace = "",
        *,
        max_cached: int | None = None,
        count: bool = True,
        recompute_last: bool = True,
        load: LoadDecision | None = None,
    ) -> Lease:
        """Reuse what is cached of a prompt and allocate blocks for all of it.

        At most `len(tokens) - 1` tokens are reused, so that there is a last one to compute.  What lower tiers
        hold beyond the pool's whole blocks is in `Lease.lower`, and what is to be loaded of it in
        `Lease.loads`, which must be done or given up before anything is computed.

        Args:
            tokens: the prompt (see `pack` for what is accepted).
            namespace: prompts under different keys share nothing.
            max_cached: most tokens to reuse (0 for a request that needs every logit of its prompt); what it
                computes is published all the same. None for no limit.
            count: with False it is left out of the hit rate (a request that is resumed).
            recompute_last: with False all of a prompt may be reused, by a caller that needs no
                logits of it.
            load: decides, where lower tiers hold more than the pool, how many tokens of that to load: 0 to
                compute all of it.  None loads all.  It must not call the cache.

        Raises:
            TokenError: a bad token id.
            ValueError: an empty prompt, a bad namespace or `max_cached`, or `load` returned no number.
            OutOfBlocksError: too few blocks are free or evictable; nothing has changed.
        """
        packed = pack(tokens)
        if not packed:
            raise ValueError("an empty prompt cannot be acquired")
        check_namespace(namespace)
        limit = len(packed)
        if max_cached is not None:
            limit = min(limit, check_int("max_cached", max_cached, least=0) * TOKEN_BYTES)
        store = self.store
        try:
            plan = plan_prompt(store, packed, namespace, limit, recompute_last, load)
        except OutOfBlocksError as short:
            if not store.draining.reclaim(short.needed - short.available):
                raise
            plan = plan_prompt(store, packed, namespace, limit, recompute_last, load)
        lease = self._take(packed, namespace, plan)
        if count:
            lease.counted = True
            counters = store.counters
            counters.requests += 1
            counters.prompt_tokens += lease.prompt_tokens
            counters.cached_tokens += lease.num_cached_tokens
            if lease.copies:
                counters.copied_tokens += lease.copies[0].num_tokens
            missed = counters.missed
            for reason, tokens_missed in lease.misses.items():
                missed[reason] = missed.get(reason, 0) + tokens_missed
            if lease.loads:
                counters.load(lease.loads)
        if store.events is not None and store.events.pending:
            store.hand_over(lease)
        return lease

    def _take(self, packed: bytes, namespace: Namespace, plan: Plan) -> Lease:
        """Carry a plan out.  Nothing here fails, unless somebody else's allocator breaks its word."""
        store = self.store
        tree, allocator = store.tree, store.allocator
        node, blocks, path, kept, source, copied, needed, cached, misses, diverged_at, lower = plan
        if node is None:
            node = tree.root(namespace)
        if blocks * BLOCK_BYTES < len(node.blocks):
            node = tree.split(node, blocks)
        tree.lock(node)
        held = None if source is None else tree.hold_ref(source)
        try:
            if needed > allocator.num_free:
                tree.evict(needed - allocator.num_free, spare_pinned=False)
            fresh = allocator.allocate(needed)
        except BaseException:
            if held is not None:
                tree.release_ref(held)
            tree.unlock(node)
            raise
        path.append(fresh)
        lease = Lease(store, namespace, node, packed, bytearray().join(path), fresh, kept, cached)
        if held is not None:
            lease.copies.append(BlockCopy(held, first_block(fresh), copied))
        if lower is not None:
            lease.lower = lower.hit
            lease.num_computed_tokens -= lower.num_tokens
            lease.loads = block_loads(lower, block_ids(fresh), self.block_size)
        lease.misses = misses
        lease.diverged_at = diverged_at
        store.add(lease)
        return lease

    def match(self, tokens: Sequence[int] | Any, namespace: Namespace = "") -> int:
        """How many tokens of a prompt `acquire` would reuse from the pool now; changes nothing."""
        packed = pack(tokens)
        root = self.store.tree.roots.get(check_namespace(namespace))
        if root is None or not packed or not self.enabled:
            return 0
        _, _, whole, _, partial, _ = self.store.tree.match(root, packed, len(packed) - TOKEN_BYTES)
        return whole + partial

    def fits(self, num_tokens: int) -> bool:
        """Whether a prompt of `num_tokens` tokens could be acquired now, if none of it were cached."""
        num_tokens = check_int("num_tokens", num_tokens, least=0)
        return -(-num_tokens // self.block_size) <= self.store.num_available

    def room_left(
        self, tokens: Sequence[int] | Any, namespace: Namespace = "", *, max_cached: int | None = None
    ) -> int:
        """Free and evictable blocks that `acquire` would leave; negative if it would fail.

        Changes nothing.  The tail that `acquire` copies if there is room is not counted.
        """
        packed = pack(tokens)
        needed = -(-len(packed) // self.store.tree.block_bytes)
        root = self.store.tree.roots.get(check_namespace(namespace))
        limit = len(packed) - TOKEN_BYTES
        if max_cached is not None:
            limit = min(limit, check_int("max_cached", max_cached, least=0) * TOKEN_BYTES)
        if root is None or limit <= 0 or not self.enabled:
            return self.store.num_available - needed
        node, blocks, whole, *_ = self.store.tree.match(root, packed, limit)
        return room(self.store, node, blocks, None)[0] - (needed - whole // self.block_size)

    # ---------------------------------------------------------------- retention

    def pin(self, tokens: Sequence[int] | Any, namespace: Namespace = "") -> Pin:
        """Keep what is cached of a prompt, in whole blocks, before all that is not pinned.

        Pins are soft: `evict` spares them, but a request that finds no other blocks gets theirs.
        They nest: what two pins cover stays pinned until both are taken off.  What is not cached
        yet is not covered; the handle's `num_tokens` tells how much is.
        """
        return self.retain(tokens, (Retention(priority=PIN_PRIORITY),), namespace)[0]

    def unpin(self, pin: Pin) -> None:
        """Take a pin off; one that has expired, is gone, or was never there is harmless.

        Raises:
            ValueError: it is no pin, or one of another cache.
        """
        self.store.queue.unpin(pin)

    def retain(
        self, tokens: Sequence[int] | Any, ranges: Sequence[Retention], namespace: Namespace = ""
    ) -> tuple[Pin, ...]:
        """Give ranges of what is cached of a prompt a priority and a time to live.

        Returns a handle a range, for `unpin`.  Raises ValueError if ranges overlap or are none.
        """
        root = self.store.tree.roots.get(check_namespace(namespace))
        return retain(self.store.tree, root, pack(tokens), ranges, self._clock())

    # ---------------------------------------------------------------- capacity

    @property
    def num_free_blocks(self) -> int:
        """Blocks that hold nothing."""
        return self.store.allocator.num_free

    @property
    def num_evictable_blocks(self) -> int:
        """Published blocks that no lease uses; pinned ones are among them."""
        return self.store.tree.num_evictable

    @property
    def num_protected_blocks(self) -> int:
        """Blocks that leases use."""
        return self.store.allocator.num_owned - self.num_evictable_blocks - self.num_draining_blocks

    @property
    def num_draining_blocks(self) -> int:
        """Blocks that nobody uses but a transfer, until `drained`."""
        return len(self.store.draining.blocks)

    @property
    def num_cached_tokens_resident(self) -> int:
        """Tokens that are published now."""
        return self.store.tree.num_tokens

    @property
    def num_leases(self) -> int:
        """Live leases."""
        return sum(map(len, self.store.live.values()))

    @property
    def block_waste(self) -> float:
        """Share of the room in used blocks that holds no token; costs O(live leases)."""
        used = self.store.allocator.num_owned - self.num_draining_blocks
        if not used:
            return 0.0
        size, unfilled = self.block_size, self.store.tree.num_unfilled
        tails: set[int] = set()  # forks may share one
        for leases in self.store.live.values():
            for lease in leases:
                if filled := lease.num_tokens % size:
                    tail = first_block(lease.packed_table[-BLOCK_BYTES:])
                    if tail not in tails and tail not in self.store.tree.held:
                        tails.add(tail)
                        unfilled += size - filled
        return unfilled / (used * size)

    def evict(self, num_blocks: int) -> int:
        """Evict up to `num_blocks` blocks in order of leaving, except pinned ones; returns how many.

        Blocks that the sink takes hold of drain; the others are free.
        """
        num_blocks = check_int("num_blocks", num_blocks, least=0)
        gone = self.store.tree.evict(num_blocks, spare_pinned=True, urgent=False)
        self.store.flush_events()
        return gone

    def drained(self, blocks: Iterable[int]) -> None:
        """Say that transfers from or into draining blocks have ended: these are free.

        Raises:
            ValueError: a block that is not draining, or is named twice; nothing has changed.
        """
        self.store.draining.drained(blocks)

    def reset(self) -> None:
        """Forget everything cached, pinned and seen; counters of `stats` go on, draining blocks drain.

        Raises:
            CacheInUseError: leases are live.
        """
        if self.store.live:
            raise CacheInUseError(f"the cache cannot be reset while {self.num_leases} leases are live")
        self.store.clear()

    def abandon(self) -> None:
        """`reset` that forgets live leases, too; none of them may be used or released afterwards.

        Blocks that are being loaded drain.
        """
        self.store.abandon()
        self.store.clear()

    def snapshot(self) -> CacheSnapshot:
        """Every published whole block as events, for a listener that missed some; costs O(cached tokens).

        Raises:
            ValueError: the cache has no `on_event`, so that events are not numbered.
        """
        events = self.store.events
        if events is None:
            raise ValueError("snapshot needs a cache with on_event")
        return events.snapshot(self.block_size, self.store.tree.stored())

    def stats(self) -> CacheStats:
        """Counters and gauges; costs O(live leases)."""
        counters, tree = self.store.counters, self.store.tree
        return CacheStats(
            requests=counters.requests,
            prompt_tokens=counters.prompt_tokens,
            cached_tokens=counters.cached_tokens,
            missed_tokens=dict(counters.missed),
            copied_tokens=counters.copied_tokens,
            published_blocks=tree.num_published,
            duplicate_blocks=tree.num_duplicates,
            evicted_blocks=tree.num_evicted,
            num_blocks=self.num_blocks,
            free_blocks=self.num_free_blocks,
            evictable_blocks=self.num_evictable_blocks,
            protected_blocks=self.num_protected_blocks,
            cached_tokens_resident=tree.num_tokens,
            leases=self.num_leases,
            block_waste=self.block_waste,
            draining_blocks=self.num_draining_blocks,
            loaded_tokens=dict(counters.loaded),
            sink_errors=self.store.draining.errors,
        )
