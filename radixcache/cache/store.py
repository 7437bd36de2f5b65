"""What the cache and its leases share: blocks, the tree over them, live leases, history and events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from radixcache.cache.blocks import BlockAllocator
from radixcache.cache.draining import Draining, EvictionSink
from radixcache.cache.events import EventCallback, EventLog
from radixcache.cache.eviction import EvictionPolicy, EvictionQueue
from radixcache.cache.history import Seen
from radixcache.cache.loads import BlockLoad, LowerTiers
from radixcache.cache.misses import RunningSequence
from radixcache.cache.namespaces import Namespace
from radixcache.cache.stats import Counters
from radixcache.cache.tree import RadixTree
from radixcache.errors import OutOfBlocksError
from radixcache.tokens import TOKEN_BYTES


class SeenIndex(Protocol):
    """A memory of the sequences computed so far, to explain misses with."""

    def lookup(self, query: bytes, namespace: Namespace) -> Seen:
        """How far a packed prompt follows what was seen."""

    def add(self, tokens: bytes, namespace: Namespace) -> None:
        """Remember a packed sequence."""

    def clear(self) -> None:
        """Forget everything."""


class LeasedSequence(RunningSequence, Protocol):
    """What the store knows of a lease."""

    namespace: Namespace
    packed_table: bytearray
    loads: tuple[BlockLoad, ...]

    def fail_loads(self, num_tokens: int = 0) -> None:
        """Give up pending loads that were not started."""

    def release(self, *, publish: bool = True) -> None:
        """Give the blocks back."""


ReleaseCallback = Callable[[LeasedSequence], None]


class BlockStore:
    """Blocks and the tree over them, as leases take, publish and give them back.

    Attributes:
        block_size: tokens per block.
        enabled: with False nothing is published.
        allocator: which blocks are free.
        queue: the eviction order.
        tree: what is published.
        live: leases that are not released, by namespace.
        history: what was seen, or None.
        events: numbers and hands out what happens; None without a listener.
        draining: blocks that only a transfer uses, and the sink that evicted blocks are offered to.
        lower: what is kept outside the pool, or None.
        counters: what became of the requests.
    """

    def __init__(
        self,
        block_size: int,
        allocator: BlockAllocator,
        queue: EvictionQueue,
        *,
        enabled: bool,
        history: SeenIndex | None,
        on_event: EventCallback | None,
        on_release: ReleaseCallback | None,
        sink: EvictionSink | None,
        lower: LowerTiers | None,
    ) -> None:
        self.block_size = block_size
        self.enabled = enabled
        self.allocator = allocator
        self.queue = queue
        self.events = None if on_event is None else EventLog(on_event)
        self.draining = Draining(allocator, sink)
        self.lower = lower
        self.tree = RadixTree(
            block_size, allocator, queue, self.draining, self.events, named=lower is not None
        )
        self.counters = Counters()
        self.live: dict[Namespace, set[LeasedSequence]] = {}
        self.history = history
        self._on_release = on_release
        policy = queue.policy
        watches = type(policy).ended is not EvictionPolicy.ended
        self._policy_ended = policy.ended if watches and enabled else None

    @property
    def num_available(self) -> int:
        """Free and evictable blocks."""
        return self.allocator.num_free + self.tree.num_evictable

    def allocate(self, count: int) -> bytes:
        """Take blocks, evicting as needed; OutOfBlocksError changes nothing."""
        if count > self.allocator.num_free:
            if count > self.num_available:
                self.draining.reclaim(count - self.num_available)
            if count > self.num_available:
                raise self.out_of_blocks(count, self.num_available)
            self.tree.evict(count - self.allocator.num_free, spare_pinned=False)
        return self.allocator.allocate(count)

    def out_of_blocks(self, needed: int, available: int) -> OutOfBlocksError:
        """The error for a call that needs more blocks than it can have now."""
        return OutOfBlocksError(needed, available, len(self.draining.blocks))

    def add(self, lease: LeasedSequence) -> None:
        """A lease is live from here on."""
        live = self.live.get(lease.namespace)
        if live is None:
            live = self.live[lease.namespace] = set()
        live.add(lease)

    def releasing(self, lease: LeasedSequence) -> None:
        """A lease is about to give its blocks back: policies that learn from sequences see it whole."""
        if self._policy_ended is not None:
            self._policy_ended(lease.buffer, lease.num_computed_tokens, lease.namespace)

    def released(self, lease: LeasedSequence, remember: int) -> None:
        """A lease was released; its first `remember` tokens were published."""
        live = self.live[lease.namespace]
        live.discard(lease)
        if not live:
            del self.live[lease.namespace]
        if self._on_release is not None:
            self._on_release(lease)
        if self.history is not None and remember:
            self.history.add(bytes(lease.buffer[: remember * TOKEN_BYTES]), lease.namespace)
        if self.events is not None:
            self.events.flush()

    def hand_over(self, lease: LeasedSequence) -> None:
        """Flush events before a new lease is returned; if the listener fails, nobody has the lease."""
        try:
            self.flush_events()
        except BaseException:
            lease.fail_loads()
            lease.release()
            raise

    def flush_events(self) -> None:
        """Hand out what happened since the last time."""
        if self.events is not None:
            self.events.flush()

    def abandon(self) -> None:
        """Forget live leases, whose blocks `clear` takes back; those being loaded drain."""
        for leases in self.live.values():
            for lease in leases:
                self.draining.blocks.update(load.target for load in lease.loads)
        self.live.clear()

    def clear(self) -> None:
        """Forget everything but draining blocks; no lease may be live."""
        self.tree.clear()
        self.allocator.clear(self.draining.blocks)
        if self.history is not None:
            self.history.clear()
        if self.events is not None:
            self.events.cleared()
        self.flush_events()
