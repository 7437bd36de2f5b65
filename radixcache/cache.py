"""The prefix cache: leases on blocks in, reuse and evictions out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from radixcache.blocks import BlockAllocator
from radixcache.errors import CacheInUseError, OutOfBlocksError
from radixcache.events import CacheCleared, CacheEvent, EventCallback
from radixcache.eviction import (
    PIN_PRIORITY,
    EvictionPolicy,
    EvictionQueue,
    Pin,
    Retention,
    check_ranges,
    make_policy,
)
from radixcache.history import History
from radixcache.lease import BlockCopy, Lease
from radixcache.misses import Explanation, MissReason, Running, all_for, explain
from radixcache.namespaces import Namespace
from radixcache.node import Match, Node
from radixcache.stats import CacheStats
from radixcache.tokens import TOKEN_BYTES, common_prefix, pack
from radixcache.tree import RadixTree

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
        policy: who leaves first; a name in `radixcache.eviction.policies` or an object.
        enabled: with False nothing is reused or published.
        explain: find out why tokens missed, which takes a history of what was computed (4 bytes a
            distinct token, at most four times the pool).  With False misses are `last_token`,
            `cache_off` or else `never_seen`.
        on_event: called with what was stored and removed after each call that did so; with None
            no digest is computed.
        clock: seconds, for times to live.

    Raises:
        ValueError: a size below 1, or an unknown policy.
    """

    def __init__(
        self,
        num_blocks: int,
        block_size: int = 16,
        *,
        policy: str | EvictionPolicy = "lru",
        enabled: bool = True,
        explain: bool = True,
        on_event: EventCallback | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for name, value in (("num_blocks", num_blocks), ("block_size", block_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.enabled = enabled
        self.allocator = BlockAllocator(num_blocks)
        self.queue = EvictionQueue(make_policy(policy), clock)
        self.events: list[CacheEvent] | None = None if on_event is None else []
        self.tree = RadixTree(block_size, self.allocator, self.queue, self.events)
        self.live: dict[Namespace, set[Lease]] = {}
        self.history = (
            History(max(_HISTORY_POOLS * num_blocks * block_size, _HISTORY_TOKENS)) if explain else None
        )
        self._on_event = on_event
        self._clock = clock
        self._requests = self._prompt_tokens = self._cached_tokens = self._copied_tokens = 0
        self._missed: dict[str, int] = {}

    # ---------------------------------------------------------------- requests

    def acquire(
        self, tokens: Sequence[int] | Any, namespace: Namespace = "", *, read: bool = True, count: bool = True
    ) -> Lease:
        """Reuse what is cached of a prompt and allocate blocks for all of it.

        At most `len(tokens) - 1` tokens are reused, so that there is a last one to compute.

        Args:
            tokens: the prompt (see `pack` for what is accepted).
            namespace: prompts under different keys share nothing.
            read: with False nothing is reused (a request that needs every logit of its prompt),
                but what it computes is published.
            count: with False it is left out of the hit rate (a request that is resumed).

        Raises:
            TokenError: a bad token id.
            ValueError: an empty prompt.
            OutOfBlocksError: too few blocks are free or evictable; nothing has changed.
        """
        packed = pack(tokens)
        if not packed:
            raise ValueError("an empty prompt cannot be acquired")
        tree, allocator = self.tree, self.allocator
        end = len(packed)
        needed = -(-end // tree.block_bytes)
        root = tree.roots.get(namespace)
        reads = self.enabled and read
        full = False
        if root is not None and reads:
            match = tree.match(root, packed, end)
            if match.whole * TOKEN_BYTES + match.partial * TOKEN_BYTES == end:
                full = True
                match = tree.match(root, packed, end - TOKEN_BYTES)
            node, blocks, whole, source, partial = match
            kept = whole // self.block_size
            needed -= kept
            if needed + 1 > allocator.num_free:
                fits, fits_copy = self._room(match)
                if needed > fits_copy:
                    source, partial = None, 0
                if needed > fits:
                    raise OutOfBlocksError(needed, fits)
        else:
            if needed > allocator.num_free + tree.num_evictable:
                raise OutOfBlocksError(needed, allocator.num_free + tree.num_evictable)
            node, blocks, whole, source, partial = root or tree.root(namespace), 0, 0, None, 0
            match = Match(node, blocks, whole, source, partial)
            kept = 0
        cached = whole + partial
        misses, diverged_at = self._explain(packed, namespace, match, cached, full, reads)

        # From here on nothing fails.
        if blocks < len(node.blocks):
            node = tree.split(node, blocks)
        tree.lock(node)
        copies = []
        if source is not None:
            tree.hold(source)
        short = needed - allocator.num_free
        if short > 0:
            tree.evict(short, spare=False)
        fresh = allocator.take(needed)
        if source is not None:
            copies.append(BlockCopy(source.blocks[0], fresh[0], partial))
        table: list[int] = []
        if kept:
            for step in tree.path(node):
                table += step.blocks
        table += fresh
        lease = Lease(self, namespace, node, packed, table, kept, cached)
        lease.copies = copies
        lease.fresh_blocks = fresh
        lease.misses = misses
        lease.diverged_at = diverged_at
        live = self.live.get(namespace)
        if live is None:
            live = self.live[namespace] = set()
        live.add(lease)
        if count:
            self._requests += 1
            self._prompt_tokens += lease.prompt_tokens
            self._cached_tokens += cached
            self._copied_tokens += partial
            for reason, tokens_missed in misses.items():
                self._missed[reason] = self._missed.get(reason, 0) + tokens_missed
        if self.events:
            self.hand_over(lease)
        return lease

    def match(self, tokens: Sequence[int] | Any, namespace: Namespace = "") -> int:
        """How many tokens of a prompt `acquire` would reuse now; changes nothing."""
        packed = pack(tokens)
        root = self.tree.roots.get(namespace)
        if root is None or not packed or not self.enabled:
            return 0
        found = self.tree.match(root, packed, len(packed) - TOKEN_BYTES)
        return found.whole + found.partial

    def fits(self, num_tokens: int) -> bool:
        """Whether a prompt of so many tokens could be acquired now, if none of it were cached."""
        return -(-num_tokens // self.block_size) <= self.allocator.num_free + self.tree.num_evictable

    def _room(self, match: Match) -> tuple[int, int]:
        """Blocks that could be had once `match` is locked, and once its source is held, too."""
        tree = self.tree
        room = self.allocator.num_free + tree.num_evictable
        at: Node | None = match.node
        if at is not None and not at.locks:
            # of a node matched in part the rest stays evictable
            room -= match.blocks - (1 if match.blocks and at.blocks[0] in tree.held else 0)
            at = at.parent
            while at is not None and not at.locks:
                room -= tree.contribution(at)
                at = at.parent
        source = match.source
        if source is None:
            return room, room
        index = match.blocks if source is match.node else 0
        held = source.locks or source.blocks[index] in tree.held
        return room, room if held else room - 1

    def _explain(
        self, packed: bytes, namespace: Namespace, match: Match, cached: int, full: bool, reads: bool
    ) -> Explanation:
        prompt_tokens = len(packed) // TOKEN_BYTES
        if not reads:
            return all_for(MissReason.CACHE_OFF, prompt_tokens)
        given_up = match.whole + match.partial - cached
        if full and not given_up:
            return all_for(MissReason.LAST_TOKEN, 1)
        if self.history is None:
            return all_for(MissReason.NEVER_SEEN, prompt_tokens - cached)
        node, source = match.node, match.source
        if source is not None:
            index = match.blocks if source is node else 0
            continues = (source.num_tokens - index * self.block_size) > match.partial
        else:
            continues = match.blocks < len(node.blocks) or bool(node.children)
        return explain(
            prompt_tokens,
            cached,
            given_up,
            continues,
            self.history.lookup(packed, namespace),
            self._running(packed, namespace, cached + given_up),
        )

    def _running(self, packed: bytes, namespace: Namespace, known: int) -> Running | None:
        """The live lease that a prompt follows furthest, if further than `known` tokens."""
        best = None
        prefix = packed[: (known + 1) * TOKEN_BYTES]
        for lease in self.live.get(namespace, ()):
            tokens = lease.buffer
            if tokens.startswith(prefix):
                common = common_prefix(packed, tokens)
                running = Running(common, lease.num_computed_tokens, lease.num_tokens > common)
                if best is None or running > best:
                    best = running
        return best

    # ---------------------------------------------------------------- retention

    def pin(self, tokens: Sequence[int] | Any, namespace: Namespace = "") -> Pin:
        """Keep what is cached of a prompt, in whole blocks, before all that is not pinned.

        Pins are soft: `evict` spares them, but a request that finds no other blocks gets theirs.
        They nest: what two pins cover stays pinned until both are taken off.  What is not cached
        yet is not covered; the handle's `num_tokens` tells how much is.
        """
        return self.retain(tokens, (Retention(priority=PIN_PRIORITY),), namespace)[0]

    def unpin(self, pin: Pin) -> None:
        """Take a pin off; one that is gone, or was never there, is harmless."""
        self.queue.unpin(pin)

    def retain(
        self, tokens: Sequence[int] | Any, ranges: Sequence[Retention], namespace: Namespace = ""
    ) -> tuple[Pin, ...]:
        """Give ranges of what is cached of a prompt a priority and a time to live.

        Returns a handle a range, for `unpin`.  Raises ValueError if ranges overlap.
        """
        check_ranges(ranges)
        packed = pack(tokens)
        root = self.tree.roots.get(namespace)
        pins = []
        now = self._clock()
        node = None
        if root is not None:
            match = self.tree.match(root, packed, len(packed))
            node = self._cut(match.node, match.node.depth // self.block_size + match.blocks)
        for wanted in ranges:
            pin = Pin(wanted.priority, None if wanted.ttl is None else now + wanted.ttl)
            pins.append(pin)
            if node is None:
                continue
            start = wanted.start // self.block_size
            stop = (node.depth + node.num_tokens) // self.block_size
            if wanted.end is not None:
                stop = min(stop, -(-wanted.end // self.block_size))
            if start >= stop:
                continue
            last = self._cut(node, stop)
            if start:
                self._cut(last, start)
            covered = [at for at in self.tree.path(last) if at.depth >= start * self.block_size]
            pin.num_tokens = sum(at.num_tokens for at in covered)
            self.queue.pin(pin, covered)
        return tuple(pins)

    def _cut(self, node: Node, block: int) -> Node:
        """The node on the path to `node` that ends after `block` blocks, split off if need be."""
        tokens = block * self.block_size
        while node.depth >= tokens and node.parent is not None:
            node = node.parent
        count = (tokens - node.depth) // self.block_size
        return self.tree.split(node, count) if count < len(node.blocks) else node

    # ---------------------------------------------------------------- capacity

    @property
    def num_free_blocks(self) -> int:
        """Blocks that hold nothing."""
        return self.allocator.num_free

    @property
    def num_evictable_blocks(self) -> int:
        """Published blocks that no lease uses; pinned ones are among them."""
        return self.tree.num_evictable

    @property
    def num_protected_blocks(self) -> int:
        """Blocks that leases use."""
        return self.num_blocks - self.allocator.num_free - self.tree.num_evictable

    @property
    def num_cached_tokens_resident(self) -> int:
        """Tokens that are published now."""
        return self.tree.num_tokens

    @property
    def num_leases(self) -> int:
        """Live leases."""
        return sum(map(len, self.live.values()))

    def evict(self, num_blocks: int) -> int:
        """Evict up to so many blocks in order of leaving, pinned ones excepted; returns how many."""
        if num_blocks < 0:
            raise ValueError(f"num_blocks must be at least 0, got {num_blocks}")
        freed = self.tree.evict(num_blocks, spare=True)
        self.flush_events()
        return freed

    def reset(self) -> None:
        """Forget everything cached, pinned and seen; the counters of `stats` go on.

        Raises:
            CacheInUseError: leases are live.
        """
        if self.live:
            raise CacheInUseError(f"the cache cannot be reset while {self.num_leases} leases are live")
        self.tree.clear()
        self.allocator.clear()
        if self.history is not None:
            self.history.clear()
        if self.events is not None:
            self.events.append(CacheCleared())
        self.flush_events()

    def stats(self) -> CacheStats:
        """Counters and gauges; costs O(private blocks of live leases)."""
        used = self.num_blocks - self.allocator.num_free
        held = self.tree.num_tokens + self._private_tokens()
        return CacheStats(
            requests=self._requests,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            missed_tokens=dict(self._missed),
            copied_tokens=self._copied_tokens,
            published_blocks=self.tree.num_published,
            duplicate_blocks=self.tree.num_duplicates,
            evicted_blocks=self.tree.num_evicted,
            num_blocks=self.num_blocks,
            free_blocks=self.num_free_blocks,
            evictable_blocks=self.num_evictable_blocks,
            protected_blocks=self.num_protected_blocks,
            cached_tokens_resident=self.tree.num_tokens,
            leases=self.num_leases,
            block_waste=1 - held / (used * self.block_size) if used else 0.0,
        )

    def _private_tokens(self) -> int:
        held: dict[int, int] = {}
        for leases in self.live.values():
            for lease in leases:
                held.update(lease.private_blocks())
        return sum(tokens for block, tokens in held.items() if block not in self.tree.held)

    # ---------------------------------------------------------------- for leases

    def allocate(self, count: int) -> list[int]:
        """Take blocks, evicting as needed; OutOfBlocksError changes nothing."""
        free = self.allocator.num_free
        if count > free:
            if count > free + self.tree.num_evictable:
                raise OutOfBlocksError(count, free + self.tree.num_evictable)
            self.tree.evict(count - free, spare=False)
        return self.allocator.take(count)

    def ended(self, lease: Lease, remember: int) -> None:
        """A lease was released whose first `remember` tokens were published."""
        live = self.live[lease.namespace]
        live.discard(lease)
        if not live:
            del self.live[lease.namespace]
        if self.history is not None and remember:
            self.history.add(bytes(lease.buffer[: remember * TOKEN_BYTES]), lease.namespace)
        self.flush_events()

    def hand_over(self, lease: Lease) -> None:
        """Flush events before a new lease is returned; if the listener fails, nobody has the lease."""
        try:
            self.flush_events()
        except BaseException:
            lease.release()
            raise

    def flush_events(self) -> None:
        """Hand out what happened since the last time."""
        if self.events and self._on_event is not None:
            events = self.events[:]
            self.events.clear()
            for event in events:
                self._on_event(event)
