"""Who runs in the next step, and with how many tokens.

Iteration-level scheduling as in Orca, chunked prefill under a token budget as in
Sarathi-Serve, longest cached prefix first as in SGLang, with a bound on how often a request
may be overtaken. What is particular here: a request whose prefix another is computing at the
moment waits for it, and so computes only the rest.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from time import perf_counter
from typing import NamedTuple

from radixcache.cache import PrefixCache
from radixcache.engine.config import EngineConfig
from radixcache.engine.request import Sequence
from radixcache.errors import OutOfBlocksError
from radixcache.lease import Lease
from radixcache.tokens import TOKEN_BYTES, common_prefix

# Waiting requests that compete for the next place; the others keep their order of arrival.
_CANDIDATES = 16


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
        # Set by a preemption: nobody is admitted until somebody has finished, or the two
        # would take each other's blocks in turn.
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

    def start_sibling(self, parent: Sequence, sibling: Sequence) -> None:
        """Let `sibling` run from where `parent` is, sharing all of its blocks."""
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
        while (
            self.waiting
            and len(self.running) < self._config.max_running
            and wanted < self._config.max_batch_tokens
            and not (self._pressed and self.running)
        ):
            candidate = self._next()
            if candidate is None:
                return
            try:
                admitted = self._acquire(candidate)
            except Exception as error:
                raise SchedulingError(candidate) from error
            if admitted is None:
                return
            self._start(candidate, admitted)
            wanted += admitted.num_tokens - admitted.num_computed_tokens

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
        read = request.params.prompt_logprobs is None or sequence.preempted
        count = not sequence.preempted
        try:
            return self._cache.acquire(tokens, request.namespace, read=read, count=count)
        except OutOfBlocksError:
            if self.running:
                return None
        # Alone, and still no room: a copied tail needs its source's block for a moment. Without
        # reuse it needs no more than its own, which was checked when it was submitted.
        return self._cache.acquire(tokens, request.namespace, read=False, count=count)

    def _next(self) -> Sequence | None:
        """The waiting sequence to admit, or None if all candidates wait for a prefix."""
        if not self._config.cache:
            return self.waiting[0]
        oldest = self.waiting[0]
        if oldest.passes >= self._config.max_passes:
            return None if self._prefix_in_flight(oldest, self._match(oldest)) else oldest
        best, longest = None, -1
        for sequence in islice(self.waiting, _CANDIDATES):
            matched = self._match(sequence)
            if matched > longest and not self._prefix_in_flight(sequence, matched):
                best, longest = sequence, matched
        return best

    def _match(self, sequence: Sequence) -> int:
        try:
            return self._cache.match(self._tokens(sequence), sequence.request.namespace)
        except Exception as error:
            raise SchedulingError(sequence) from error

    def _tokens(self, sequence: Sequence) -> bytes:
        """The sequence's tokens, packed once while it waits."""
        packed = self._packed.get(sequence)
        if packed is None:
            packed = self._packed[sequence] = sequence.packed()
        return packed

    def _prefix_in_flight(self, sequence: Sequence, matched: int) -> bool:
        """A running prefill will soon publish at least a block more of this prompt."""
        tokens = self._tokens(sequence)
        block_size = self._cache.block_size
        most = len(tokens) // TOKEN_BYTES - 1
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
