"""What the cache and its leases share: blocks, the tree over them, who runs, what was seen, and events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from radixcache.cache.blocks import BlockAllocator
from radixcache.cache.events import CacheCleared, CacheEvent, EventCallback
from radixcache.cache.eviction import EvictionPolicy, EvictionQueue
from radixcache.cache.history import Seen
from radixcache.cache.misses import RunningSequence
from radixcache.cache.namespaces import Namespace
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
        events: what happened and was not handed out yet; None without a listener.
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
    ) -> None:
        self.block_size = block_size
        self.enabled = enabled
        self.allocator = allocator
        self.queue = queue
        self.events: list[CacheEvent] | None = None if on_event is None else []
        self.tree = RadixTree(block_size, allocator, queue, self.events)
        self.live: dict[Namespace, set[LeasedSequence]] = {}
        self.history = history
        self._on_event = on_event
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
        free = self.allocator.num_free
        if count > free:
            if count > free + self.tree.num_evictable:
                raise OutOfBlocksError(count, free + self.tree.num_evictable)
            self.tree.evict(count - free, spare_pinned=False)
        return self.allocator.allocate(count)

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
        self.flush_events()

    def hand_over(self, lease: LeasedSequence) -> None:
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

    def clear(self) -> None:
        """Forget everything; no lease may be live."""
        self.tree.clear()
        self.allocator.clear()
        if self.history is not None:
            self.history.clear()
        if self.events is not None:
            self.events.append(CacheCleared())
        self.flush_events()
