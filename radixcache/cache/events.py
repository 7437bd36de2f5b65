"""What happened to published blocks, numbered, for routers and lower tiers.

Only whole blocks are reported: a partial tail is of no use outside the process.

Events of one *epoch* are numbered 0, 1, 2, ... without gaps, and number 0 is the first thing that happened
to an empty cache.  A new epoch, a greater number than the one before, begins with the process and with every
reset.  A listener that finds a number missing, or an epoch that does not begin at 0, has missed something; a
`CacheSnapshot` gives it the whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from radixcache.cache.digest import namespace_digest
from radixcache.cache.namespaces import Namespace
from radixcache.tokens import TOKEN_BYTES, unpack


@dataclass(slots=True, unsafe_hash=True)  # frozen ones take six times as long to make
class BlocksStored:
    """Consecutive blocks were published.

    Events are not to be changed.  Two are equal if they say the same, whatever their numbers and block ids.

    Attributes:
        namespace: the namespace they were published in.
        parent: digest of the block before the first one; the namespace's own digest at position 0.
        digests: one a block, 16 bytes each, in order.
        tokens: the blocks' tokens, packed.
        blocks: the blocks' ids, packed int32; of use in this process only.
        epoch: nanoseconds since 1970 when the epoch began, or a little more.
        sequence: number within the epoch.
    """

    namespace: Namespace
    parent: bytes
    digests: tuple[bytes, ...]
    tokens: bytes
    blocks: bytes = field(default=b"", compare=False, repr=False)
    epoch: int = field(default=0, compare=False)
    sequence: int = field(default=0, compare=False)

    @property
    def block_size(self) -> int:
        """Tokens a block."""
        return len(self.tokens) // TOKEN_BYTES // len(self.digests)

    @property
    def token_ids(self) -> list[int]:
        """The blocks' tokens."""
        return unpack(self.tokens)

    @property
    def at_root(self) -> bool:
        """Whether the first block begins the sequence, so that `parent` is no block's digest."""
        return self.parent == namespace_digest(self.namespace)


@dataclass(slots=True, unsafe_hash=True)
class BlocksRemoved:
    """Blocks were evicted; `digests` in order of position, `epoch` and `sequence` as in `BlocksStored`."""

    namespace: Namespace
    digests: tuple[bytes, ...]
    epoch: int = field(default=0, compare=False)
    sequence: int = field(default=0, compare=False)


@dataclass(slots=True, unsafe_hash=True)
class CacheCleared:
    """The whole cache was reset: number 0 of a new epoch."""

    epoch: int = field(default=0, compare=False)
    sequence: int = field(default=0, compare=False)


CacheEvent = BlocksStored | BlocksRemoved | CacheCleared
"""What a listener is called with."""

EventCallback = Callable[[CacheEvent], None]


@dataclass(frozen=True, slots=True)
class CacheSnapshot:
    """Everything that is published, as a listener that heard every event would know it.

    Attributes:
        epoch: the epoch it belongs to.
        next_sequence: it contains all that events before this number did; that event is the next to apply.
        block_size: tokens a block.
        stored: every whole block, parents before children; the events' `sequence` is `next_sequence - 1`.
    """

    epoch: int
    next_sequence: int
    block_size: int
    stored: tuple[BlocksStored, ...]


StoredRow = tuple[Namespace, bytes, tuple[bytes, ...], bytes, bytes]
"""Namespace, parent, digests, tokens and blocks as in `BlocksStored`."""


class EventLog:
    """Numbers events and keeps them until the call that caused them hands them out.

    Attributes:
        pending: events that the listener has not been given yet.
        epoch: of the next event.
        sequence: of the next event.
    """

    __slots__ = ("_listener", "epoch", "pending", "sequence")

    def __init__(self, listener: EventCallback) -> None:
        self._listener = listener
        self.pending: list[CacheEvent] = []
        self.epoch = time.time_ns()
        self.sequence = 0

    def stored(
        self, namespace: Namespace, parent: bytes, digests: list[bytes], tokens: bytes, blocks: bytes
    ) -> None:
        """Blocks were published."""
        self.pending.append(
            BlocksStored(namespace, parent, tuple(digests), tokens, blocks, self.epoch, self.sequence)
        )
        self.sequence += 1

    def removed(self, namespace: Namespace, digests: list[bytes]) -> None:
        """Blocks were evicted."""
        self.pending.append(BlocksRemoved(namespace, tuple(digests), self.epoch, self.sequence))
        self.sequence += 1

    def cleared(self) -> None:
        """Everything is gone: a new epoch begins."""
        self.epoch = max(time.time_ns(), self.epoch + 1)
        self.pending.append(CacheCleared(self.epoch, 0))
        self.sequence = 1

    def snapshot(self, block_size: int, stored: Iterable[StoredRow]) -> CacheSnapshot:
        """The whole, as of now."""
        events = [BlocksStored(*row, self.epoch, self.sequence - 1) for row in stored]
        return CacheSnapshot(self.epoch, self.sequence, block_size, tuple(events))

    def flush(self) -> None:
        """Give the listener what is pending.  If it fails, it has missed the rest, and the numbers tell."""
        if not self.pending:
            return
        events, self.pending = self.pending, []
        for event in events:
            self._listener(event)
