"""Which waiting sequence starts next, and whether there is room for it."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

from radixcache.cache.lease import Lease
from radixcache.cache.loads import LoadDecision
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.engine.config import EngineConfig
from radixcache.engine.request import Sequence
from radixcache.engine.waiting import WaitingQueue
from radixcache.errors import OutOfBlocksError
from radixcache.tokens import TOKEN_BYTES, common_prefix

# Waiting sequences that compete for the next place; the others keep their order.
_CANDIDATES = 16
# After a preemption, tokens that all running sequences must have room for before another is admitted.
_HEADROOM = 64


class SchedulingError(Exception):
    """A waiting sequence cannot be scheduled; `__cause__` is why.

    Attributes:
        sequence: the one at fault; the other sequences can be scheduled without it.
    """

    def __init__(self, sequence: Sequence) -> None:
        super().__init__(f"request {sequence.request.handle.request_id} cannot be scheduled")
        self.sequence = sequence


class Admission:
    """Gives leases to waiting sequences: highest priority first, then the longest cached prefix.

    A sequence whose prefix another is computing at the moment waits for it, and so computes only the rest.

    Attributes:
        pressed: a sequence was preempted, and none has ended since: one that is admitted must leave room for
            the others to go on, or they would take each other's blocks in turn.
    """

    def __init__(
        self, cache: PrefixCache, config: EngineConfig, waiting: WaitingQueue, load: LoadDecision
    ) -> None:
        self._cache = cache
        self._config = config
        self._waiting = waiting
        self._load = load
        self.pressed = False

    def next(self, running: SequenceOf[Sequence]) -> tuple[Sequence, Lease] | None:
        """Take the sequence that comes next among those there is room for out of the queue, if any.

        Args:
            running: the sequences that hold a lease, those that load included.

        Raises:
            SchedulingError: a sequence does not fit even alone, or cannot be looked up.
        """
        for candidate, matched in self._candidates(running):
            try:
                if self._prefix_in_flight(candidate, matched, running):
                    continue
                lease = self._acquire(candidate, matched, running)
            except Exception as error:
                raise SchedulingError(candidate) from error
            if lease is not None:
                self._waiting.admit(candidate, _CANDIDATES)
                return candidate, lease
        return None

    def _candidates(self, running: SequenceOf[Sequence]) -> list[tuple[Sequence, int]]:
        """Waiting sequences in the order to try them, and how many tokens of each are cached.

        Once the oldest has been overtaken often enough it comes first, and after it only those that end, at
        the latest, when the first of the running ones does: they fill places for which the oldest is too
        large, and do not keep it waiting.
        """
        oldest = self._waiting.oldest
        matched = {sequence: self._match(sequence) for sequence in self._waiting.head(_CANDIDATES)}
        order = sorted(matched, key=lambda sequence: (-sequence.request.priority, -matched[sequence]))
        if oldest.passes >= self._config.max_passes:
            first = min((sequence.remaining for sequence in running), default=0)
            order = [oldest, *(other for other in order if other is not oldest and other.remaining <= first)]
            if oldest not in matched:
                matched[oldest] = self._match(oldest)
        return [(sequence, matched[sequence]) for sequence in order]

    def _match(self, sequence: Sequence) -> int:
        try:
            matched = self._cache.match(sequence.packed(), sequence.request.namespace)
        except Exception as error:
            raise SchedulingError(sequence) from error
        return matched if sequence.readable is None else min(matched, sequence.readable)

    def _acquire(self, sequence: Sequence, matched: int, running: SequenceOf[Sequence]) -> Lease | None:
        """A lease, or None if it has to wait for blocks."""
        if not self._has_room(sequence, matched, running):
            return None
        tokens, namespace = sequence.packed(), sequence.request.namespace
        limit, count = sequence.readable, not sequence.preempted
        try:
            return self._cache.acquire(tokens, namespace, max_cached=limit, count=count, load=self._load)
        except OutOfBlocksError as error:
            if running or error.draining:
                return None
        # Alone, and still no room: a copied tail needs its source's block for a moment. Without
        # reuse it needs no more than its own, which was checked when it was submitted.
        return self._cache.acquire(tokens, namespace, max_cached=0, count=count)

    def _has_room(self, candidate: Sequence, matched: int, running: SequenceOf[Sequence]) -> bool:
        """Whether it is worth trying to admit `candidate`, of which `matched` tokens are cached.

        After a preemption all running sequences must be able to go on with it: there are blocks for all that
        they may yet generate, or a time without preemption is in sight in which more tokens are generated
        than it takes to compute the candidate again.
        """
        cache, size = self._cache, self._cache.block_size
        if not running:
            return True
        missing = candidate.num_tokens - matched
        if missing // size > cache.num_free_blocks + cache.num_evictable_blocks:
            return False
        if not self.pressed:
            return True
        tokens, namespace = candidate.packed(), candidate.request.namespace
        left = cache.room_left(tokens, namespace, max_cached=candidate.readable)
        members = [*running, candidate]
        if left >= sum(self._growth(member, member.remaining) for member in members):
            return True
        soon = sum(self._growth(member, min(member.remaining, _HEADROOM)) for member in members)
        return left >= soon and left * size >= missing

    def _growth(self, sequence: Sequence, more: int) -> int:
        """Blocks that a sequence needs for `more` tokens beyond those it has."""
        tokens, size = sequence.num_tokens, self._cache.block_size
        return -(-(tokens + more) // size) - -(-tokens // size)

    def _prefix_in_flight(self, sequence: Sequence, matched: int, running: SequenceOf[Sequence]) -> bool:
        """A running prefill will soon publish at least a block more of this prompt that it may read."""
        if not self._config.cache:
            return False
        tokens = sequence.packed()
        block_size = self._cache.block_size
        most = len(tokens) // TOKEN_BYTES - 1
        if sequence.readable is not None:
            most = min(most, sequence.readable)
        for other in running:
            lease = other.lease
            if lease is None or other.request.namespace != sequence.request.namespace:
                continue
            will_publish = lease.num_tokens // block_size * block_size
            if min(will_publish, most) - matched < block_size or lease.num_computed_tokens >= will_publish:
                continue
            shared = min(common_prefix(lease.buffer, tokens), will_publish, most)
            if shared - matched >= block_size and lease.num_computed_tokens < shared:
                return True
        return False
