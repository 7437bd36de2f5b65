"""The prefix cache: leases on blocks in, reuse and evictions out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from radixcache.cache.blocks import BLOCK_BYTES, BlockAllocator, first_block
from radixcache.cache.events import EventCallback
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
from radixcache.cache.misses import Explanation, MissReason, explain, furthest_running
from radixcache.cache.namespaces import Namespace, check_namespace
from radixcache.cache.node import Node
from radixcache.cache.pinning import retain
from radixcache.cache.stats import CacheStats
from radixcache.cache.store import BlockStore, ReleaseCallback, SeenIndex
from radixcache.errors import CacheInUseError, OutOfBlocksError
from radixcache.ranges import check_bool, check_int
from radixcache.tokens import TOKEN_BYTES, TOKEN_LIMIT, pack

_CACHE_OFF = str(MissReason.CACHE_OFF)
_LAST_TOKEN = str(MissReason.LAST_TOKEN)
_NEVER_SEEN = str(MissReason.NEVER_SEEN)
_HISTORY_POOLS = 4  # the history remembers this many times the tokens of the pool
_HISTORY_TOKENS = 1 << 16  # and at least so many


class PrefixCache:
    """A pool of KV blocks and the radix tree that says which prefixes they hold.

    The cache knows token ids and block ids and never touches KV itself: whoever computes it takes
    a lease, does the lease's copies, computes what is not cached into the lease's blocks, and
    commits.  Reuse is token-granular while storage is block-granular: the last block that matches
    in part is copied.

    Not thread-safe: one thread calls the cache and its leases, and a callback must not call back.

    Args:
        num_blocks: blocks in the pool, ids 0 to num_blocks - 1.
        block_size: tokens a block holds.
        policy: who leaves first; a name in `radixcache.cache.eviction.policies` or an object.
        enabled: with False nothing is reused or published.
        explain: find out why tokens missed, which takes a history of what was computed (4 bytes a
            distinct token, at most four times the pool).  With False misses are `last_token`,
            `cache_off` or else `never_seen`.
        history: what remembers the sequences for `explain`; None for a `History`.
        on_event: called with what was stored and removed after each call that did so; with None
            no digest is computed.
        on_release: called with every lease that is released, before its sequence enters the history.
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.num_blocks = num_blocks = check_int("num_blocks", num_blocks, least=1, most=TOKEN_LIMIT)
        self.block_size = block_size = check_int("block_size", block_size, least=1, most=TOKEN_LIMIT)
        self.enabled = check_bool("enabled", enabled)
        check_bool("explain", explain)
        for name, call in (("on_event", on_event), ("on_release", on_release), ("clock", clock)):
            if call is not None and not callable(call):
                raise ValueError(f"{name} must be callable, got {call!r}")
        chosen = make_policy(policy)
        chosen.bind(num_blocks, block_size)
        if explain and history is None:
            history = History(max(_HISTORY_POOLS * num_blocks * block_size, _HISTORY_TOKENS))
        self.store = BlockStore(
            block_size,
            BlockAllocator(num_blocks),
            EvictionQueue(chosen, clock),
            enabled=enabled,
            history=history if explain else None,
            on_event=on_event,
            on_release=on_release,
        )
        self._clock = clock
        self._requests = self._prompt_tokens = self._cached_tokens = self._copied_tokens = 0
        self._missed: dict[str, int] = {}

    # ---------------------------------------------------------------- requests

    def acquire(
        self,
        tokens: Sequence[int] | Any,
        namespace: Namespace = "",
        *,
        max_cached: int | None = None,
        count: bool = True,
        recompute_last: bool = True,
    ) -> Lease:
        """Reuse what is cached of a prompt and allocate blocks for all of it.

        At most `len(tokens) - 1` tokens are reused, so that there is a last one to compute.

        Args:
            tokens: the prompt (see `pack` for what is accepted).
            namespace: prompts under different keys share nothing.
            max_cached: reuse at most so many tokens (0 for a request that needs every logit of its
                prompt); what it computes is published all the same. None for no limit.
            count: with False it is left out of the hit rate (a request that is resumed).
            recompute_last: with False all of a prompt may be reused, by a caller that needs no
                logits of it.

        Raises:
            TokenError: a bad token id.
            ValueError: an empty prompt, a bad namespace or a bad `max_cached`.
            OutOfBlocksError: too few blocks are free or evictable; nothing has changed.
        """
        packed = pack(tokens)
        if not packed:
            raise ValueError("an empty prompt cannot be acquired")
        check_namespace(namespace)
        store = self.store
        tree, allocator = store.tree, store.allocator
        end = limit = len(packed)
        if max_cached is not None:
            limit = min(end, check_int("max_cached", max_cached, least=0) * TOKEN_BYTES)
        needed = -(-end // tree.block_bytes)
        root = tree.roots.get(namespace)
        reads = self.enabled and limit > 0
        full = False
        if root is not None and reads:
            match = tree.match(root, packed, limit)
            node, blocks, whole, source, partial, path = match
            if recompute_last and (whole + partial) * TOKEN_BYTES == end:
                full = True
                match = tree.match(root, packed, end - TOKEN_BYTES)
                node, blocks, whole, source, partial, path = match
            kept = whole // self.block_size
            needed -= kept
            matched = whole + partial
            if needed + kept + 1 > allocator.num_free + tree.num_evictable:  # the path's are counted in
                fits, fits_copy = self._room(node, blocks, source)
                if needed > fits_copy:
                    source, partial = None, 0
                if needed > fits:
                    raise OutOfBlocksError(needed, fits)
        else:
            if needed > allocator.num_free + tree.num_evictable:
                raise OutOfBlocksError(needed, store.num_available)
            match = root or tree.root(namespace), 0, 0, None, 0, []
            node, blocks, whole, source, partial, path = match
            kept = matched = 0
        cached = whole + partial
        diverged_at = None
        if not reads or (limit < end and matched * TOKEN_BYTES == limit):
            misses = {_CACHE_OFF: end // TOKEN_BYTES - cached}
        elif full and matched == cached:
            misses = {_LAST_TOKEN: 1}
        elif store.history is None:
            missed = end // TOKEN_BYTES - cached
            misses = {_NEVER_SEEN: missed} if missed else {}
        else:
            continues = tree.continues(match)
            misses, diverged_at = self._explain(packed, namespace, cached, matched, continues)

        # From here on nothing fails.
        if blocks * BLOCK_BYTES < len(node.blocks):
            node = tree.split(node, blocks)
        tree.lock(node)
        copied = None if source is None else tree.hold_ref(source)
        if needed > allocator.num_free:
            tree.evict(needed - allocator.num_free, spare_pinned=False)
        fresh = allocator.allocate(needed)
        path.append(fresh)
        lease = Lease(store, namespace, node, packed, bytearray().join(path), fresh, kept, cached)
        if copied is not None:
            lease.copies.append(BlockCopy(copied, first_block(fresh), partial))
        lease.misses = misses
        lease.diverged_at = diverged_at
        store.add(lease)
        if count:
            self._requests += 1
            self._prompt_tokens += lease.prompt_tokens
            self._cached_tokens += cached
            self._copied_tokens += partial
            for reason, tokens_missed in misses.items():
                self._missed[reason] = self._missed.get(reason, 0) + tokens_missed
        if store.events:
            store.hand_over(lease)
        return lease

    def match(self, tokens: Sequence[int] | Any, namespace: Namespace = "") -> int:
        """How many tokens of a prompt `acquire` would reuse now; changes nothing."""
        packed = pack(tokens)
        root = self.store.tree.roots.get(check_namespace(namespace))
        if root is None or not packed or not self.enabled:
            return 0
        _, _, whole, _, partial, _ = self.store.tree.match(root, packed, len(packed) - TOKEN_BYTES)
        return whole + partial

    def fits(self, num_tokens: int) -> bool:
        """Whether a prompt of so many tokens could be acquired now, if none of it were cached."""
        num_tokens = check_int("num_tokens", num_tokens, least=0)
        return -(-num_tokens // self.block_size) <= self.store.num_available

    def room_left(
        self, tokens: Sequence[int] | Any, namespace: Namespace = "", *, max_cached: int | None = None
    ) -> int:
        """Free and evictable blocks that `acquire` would leave; negative if it would fail.

        Changes nothing. Reckoned without the tail that `acquire` copies if there is room.
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
        return self._room(node, blocks, None)[0] - (needed - whole // self.block_size)

    def _room(self, node: Node, blocks: int, source: Node | None) -> tuple[int, int]:
        """Blocks that could be had once a match is locked, and once its source is held, too."""
        tree = self.store.tree
        room = self.store.num_available
        if not node.locks:
            # of a node matched in part the rest stays evictable
            room -= blocks
            if tree.held and blocks and first_block(node.blocks) in tree.held:
                room += 1
            at = node.parent
            while at is not None and not at.locks:
                room -= tree.contribution(at)
                at = at.parent
        if source is None or source.locks:
            return room, room
        at_block = blocks * BLOCK_BYTES if source is node else 0
        held = tree.held and first_block(source.blocks[at_block : at_block + BLOCK_BYTES]) in tree.held
        return room, room if held else room - 1

    def _explain(
        self, packed: bytes, namespace: Namespace, cached: int, matched: int, continues: bool
    ) -> Explanation:
        assert self.store.history is not None
        return explain(
            len(packed) // TOKEN_BYTES,
            cached,
            matched - cached,
            continues,
            self.store.history.lookup(packed, namespace),
            furthest_running(self.store.live.get(namespace, ()), packed, matched),
        )

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
        return self.num_blocks - self.store.num_available

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
        used = self.num_blocks - self.store.allocator.num_free
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
        """Evict up to so many blocks in order of leaving, pinned ones excepted; returns how many."""
        num_blocks = check_int("num_blocks", num_blocks, least=0)
        freed = self.store.tree.evict(num_blocks, spare_pinned=True)
        self.store.flush_events()
        return freed

    def reset(self) -> None:
        """Forget everything cached, pinned and seen; the counters of `stats` go on.

        Raises:
            CacheInUseError: leases are live.
        """
        if self.store.live:
            raise CacheInUseError(f"the cache cannot be reset while {self.num_leases} leases are live")
        self.store.clear()

    def abandon(self) -> None:
        """`reset` that lets go of live leases, too; none of them may be used or released afterwards."""
        self.store.live.clear()
        self.reset()

    def stats(self) -> CacheStats:
        """Counters and gauges; costs O(live leases)."""
        return CacheStats(
            requests=self._requests,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            missed_tokens=dict(self._missed),
            copied_tokens=self._copied_tokens,
            published_blocks=self.store.tree.num_published,
            duplicate_blocks=self.store.tree.num_duplicates,
            evicted_blocks=self.store.tree.num_evicted,
            num_blocks=self.num_blocks,
            free_blocks=self.num_free_blocks,
            evictable_blocks=self.num_evictable_blocks,
            protected_blocks=self.num_protected_blocks,
            cached_tokens_resident=self.store.tree.num_tokens,
            leases=self.num_leases,
            block_waste=self.block_waste,
        )
