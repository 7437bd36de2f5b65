"""Who runs in the next step, and with how many tokens.

Iteration-level scheduling as in Orca, chunked prefill under a token budget as in
Sarathi-Serve, longest cached prefix first as in SGLang, with a bound on how often a request
may be overtaken. What is particular here: a request whose prefix another is computing at the
moment waits for it, and so computes only the rest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from contextlib import closing
from itertools import islice
from time import perf_counter
from typing import NamedTuple

from radixcache.cache.lease import Lease
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.engine.config import EngineConfig
from radixcache.engine.request import Sequence
from radixcache.errors import OutOfBlocksError
from radixcache.tokens import TOKEN_BYTES, common_prefix

# Waiting requests that compete for the next place; the others keep their order of arrival.
_CANDIDATES = 16
# After a preemption, tokens that whoever runs must be able to go on for before another is admitted.
_HEADROOM = 64


class Chunk(NamedTuple):
    """Part of a sequence to compute in one step: `length` tokens from position `start`."""

    sequence: Sequence
    start: int
    length: int

    @property
    def stop(self) -> int:
        """Position after the last token."""
        return self.start + self.length

    @property
    def completes(self) -> bool:
        """After this chunk everything known of the sequence is computed: sample."""
        lease = self.sequence.lease
        return lease is not None and self.stop == lease.num_tokens


class SchedulingError(Exception):
    """A waiting sequence cannot be scheduled; `__cause__` is why.

    Attributes:
        sequence: whose fault it is; the other sequences can be scheduled without it.
    """

    def __init__(self, sequence: Sequence) -> None:
        super().__init__(f"request {sequence.request.handle.request_id} cannot be scheduled")
        self.sequence = sequence


class Scheduler:
    """Keeps the waiting and the running sequences. Used by the engine's thread alone.

    Attributes:
        waiting: in order of arrival, preempted ones first.
        running: in order of admission; each holds a lease.
        preemptions: how many sequences had to give their blocks back.
    """

    def __init__(self, cache: PrefixCache, config: EngineConfig) -> None:
        self._cache = cache
        self._config = config
        self._packed: dict[Sequence, bytes] = {}
        # Set by a preemption, until somebody ends: who is admitted must leave room to go on, or the two would
        # take each other's blocks in turn.
        self._pressed = False
        self._decoding: dict[Sequence, int] = {}  # places of the last step's decodes
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.preemptions = 0

    @property
    def has_work(self) -> bool:
        """Anything waits or runs."""
        return bool(self.waiting or self.running)

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence."""
        self.waiting.append(sequence)

    def schedule(self) -> list[Chunk]:
        """Admit what fits and share the step's token budget: decodes first, then prefill.

        Raises:
            SchedulingError: a waiting sequence does not fit even alone, or cannot be looked up.
        """
        self._admit()
        budget = self._config.max_batch_tokens
        chunks: list[Chunk] = []
        prefills: list[tuple[Sequence, Lease]] = []
        for sequence in self.running:
            lease = sequence.lease
            assert lease is not None
            if lease.num_tokens - lease.num_computed_tokens == 1:
                chunks.append(Chunk(sequence, lease.num_computed_tokens, 1))
                budget -= 1
            else:
                prefills.append((sequence, lease))
        self._order(chunks)
        for sequence, lease in prefills:
            count = min(lease.num_tokens - lease.num_computed_tokens, budget)
            if count <= 0:
                break
            chunks.append(Chunk(sequence, lease.num_computed_tokens, count))
            budget -= count
        return chunks

    @property
    def full(self) -> bool:
        """As many sequences run as may."""
        return len(self.running) >= self._config.max_running

    def start_sibling(self, parent: Sequence, sibling: Sequence) -> None:
        """Let `sibling` run from where `parent` is, sharing all of its blocks; not if `full`."""
        assert parent.lease is not None
        sibling.lease = parent.lease.fork()
        self.running.append(sibling)

    def grow(self, sequence: Sequence, token: int) -> None:
        """Make room for one more token, preempting the latest admitted if need be."""
        while sequence.lease is not None:
            try:
                sequence.lease.extend([token])
            except OutOfBlocksError:
                self._preempt(self.running[-1])
            else:
                return

    def remove(self, sequence: Sequence) -> None:
        """Take a finished, aborted or failed sequence out, wherever it is."""
        self._packed.pop(sequence, None)
        lease, sequence.lease = sequence.lease, None
        if lease is not None:
            self.running.remove(sequence)
            self._pressed = False
            lease.release()
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    def restart(self) -> None:
        """Let every running sequence wait and begin again without its lease, which is not released."""
        for sequence in reversed(self.running):
            sequence.lease = None
            self.waiting.appendleft(sequence)
        self.preemptions += len(self.running)
        self.running.clear()
        self._packed.clear()
        self._decoding.clear()
        self._pressed = False

    def clear(self) -> None:
        """Drop every sequence; leases are not released."""
        self.restart()
        self.waiting.clear()

    def _order(self, decodes: list[Chunk]) -> None:
        """Make sequences that share a prefix neighbours: the tree's depth-first order.

        Appending a token does not change it, so it is found anew only for other sequences. Comparing long
        shared prefixes takes time: an order that nearly holds is mended with few comparisons.
        """
        known = self._decoding
        decodes.sort(key=lambda chunk: known.get(chunk.sequence, len(known)))
        if len(decodes) != len(known) or any(chunk.sequence not in known for chunk in decodes):
            decodes.sort(key=_tokens_so_far)
            self._decoding = {chunk.sequence: place for place, chunk in enumerate(decodes)}

    def _preempt(self, victim: Sequence) -> None:
        lease, victim.lease = victim.lease, None
        assert lease is not None
        self.running.remove(victim)
        self.waiting.appendleft(victim)
        self._packed.pop(victim, None)
        self.preemptions += 1
        self._pressed = True
        lease.release()

    def _admit(self) -> None:
        wanted = 0
        for sequence in self.running:
            lease = sequence.lease
            assert lease is not None
            wanted += lease.num_tokens - lease.num_computed_tokens
        while self.waiting and not self.full and wanted < self._config.max_batch_tokens:
            lease = self._admit_one()
            if lease is None:
                return
            wanted += lease.num_tokens - lease.num_computed_tokens

    def _admit_one(self) -> Lease | None:
        """Start the waiting sequence that comes next among those there is room for, if any."""
        with closing(self._candidates()) as candidates:
            for candidate, matched in candidates:
                try:
                    lease = self._acquire(candidate) if self._has_room(candidate, matched) else None
                except Exception as error:
                    raise SchedulingError(candidate) from error
                if lease is not None:
                    self._start(candidate, lease)
                    return lease
        return None

    def _start(self, sequence: Sequence, lease: Lease) -> None:
        request = sequence.request
        if not sequence.preempted:
            request.admitted_at = perf_counter()
            request.cached_tokens = lease.num_cached_tokens
            request.misses = dict(lease.misses)
            request.diverged_at = lease.diverged_at
        for earlier in self.waiting:
            if earlier is sequence:
                break
            earlier.passes += 1
        self.waiting.remove(sequence)
        self._packed.pop(sequence, None)
        sequence.lease = lease
        self.running.append(sequence)

    def _acquire(self, sequence: Sequence) -> Lease | None:
        """A lease, or None if it has to wait for blocks."""
        request = sequence.request
        tokens = self._tokens(sequence)
        limit = sequence.readable
        count = not sequence.preempted
        try:
            return self._cache.acquire(tokens, request.namespace, max_cached=limit, count=count)
        except OutOfBlocksError:
            if self.running:
                return None
        # Alone, and still no room: a copied tail needs its source's block for a moment. Without
        # reuse it needs no more than its own, which was checked when it was submitted.
        return self._cache.acquire(tokens, request.namespace, max_cached=0, count=count)

    def _has_room(self, candidate: Sequence, matched: int) -> bool:
        """Whether it is worth trying to admit `candidate`, of which `matched` tokens are cached.

        After a preemption all that run must be able to go on with it: there are blocks for all that they may
        yet generate, or a time without preemption is in sight in which more tokens are generated than it
        takes to compute the candidate anew.
        """
        cache, size = self._cache, self._cache.block_size
        if not self.running:
            return True
        missing = candidate.num_tokens - matched
        if missing // size > cache.num_free_blocks + cache.num_evictable_blocks:
            return False
        if not self._pressed:
            return True
        tokens, namespace = self._tokens(candidate), candidate.request.namespace
        left = cache.room_left(tokens, namespace, max_cached=candidate.readable)
        members = [*self.running, candidate]
        if left >= sum(self._growth(member, member.remaining) for member in members):
            return True
        soon = sum(self._growth(member, min(member.remaining, _HEADROOM)) for member in members)
        return left >= soon and left * size >= missing

    def _growth(self, sequence: Sequence, more: int) -> int:
        """Blocks that a sequence needs for `more` tokens beyond those it has."""
        tokens, size = sequence.num_tokens, self._cache.block_size
        return -(-(tokens + more) // size) - -(-tokens // size)

    def _candidates(self) -> Generator[tuple[Sequence, int]]:
        """Waiting sequences to admit and how much of each is cached, the longest cached prefix first.

        Left out is who waits for a prefix. Once the oldest has been overtaken often enough, it comes first,
        and after it only those that end, at the latest, when the first of those running does: they fill
        places for which the oldest is too large, and do not keep it waiting.
        """
        oldest = self.waiting[0]
        matched = {sequence: self._match(sequence) for sequence in islice(self.waiting, _CANDIDATES)}
        order = sorted(matched, key=matched.__getitem__, reverse=True)
        if oldest.passes >= self._config.max_passes:
            first = min((sequence.remaining for sequence in self.running), default=0)
            brief = [other for other in order if other is not oldest and other.remaining <= first]
            order = [oldest, *brief]
        for sequence in order:
            if not self._prefix_in_flight(sequence, matched[sequence]):
                yield sequence, matched[sequence]

    def _match(self, sequence: Sequence) -> int:
        try:
            matched = self._cache.match(self._tokens(sequence), sequence.request.namespace)
        except Exception as error:
            raise SchedulingError(sequence) from error
        return matched if sequence.readable is None else min(matched, sequence.readable)

    def _tokens(self, sequence: Sequence) -> bytes:
        """The sequence's tokens, packed once while it waits."""
        packed = self._packed.get(sequence)
        if packed is None:
            packed = self._packed[sequence] = sequence.packed()
        return packed

    def _prefix_in_flight(self, sequence: Sequence, matched: int) -> bool:
        """A running prefill will soon publish at least a block more of this prompt that it may read."""
        if not self._config.cache:
            return False
        tokens = self._tokens(sequence)
        block_size = self._cache.block_size
        most = len(tokens) // TOKEN_BYTES - 1
        if sequence.readable is not None:
            most = min(most, sequence.readable)
        for other in self.running:
            lease = other.lease
            if lease is None or other.request.namespace != sequence.request.namespace:
                continue
            will_publish = lease.num_tokens // block_size * block_size
            if min(will_publish, most) - matched < block_size or lease.num_computed_tokens >= will_publish:
                continue
            shared = min(common_prefix(lease.tokens, tokens), will_publish, most)
            if shared - matched >= block_size and lease.num_computed_tokens < shared:
                return True
        return False


def _tokens_so_far(chunk: Chunk) -> bytes | bytearray:
    assert chunk.sequence.lease is not None
    return chunk.sequence.lease.buffer
