"""Which sequences run in the next step, and with how many tokens.

Iteration-level scheduling as in Orca, chunked prefill under a token budget as in
Sarathi-Serve, longest cached prefix first as in SGLang, with a bound on how often a request
may be overtaken.
"""

from __future__ import annotations

from time import perf_counter

from radixcache.cache.lease import Lease
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.engine.admission import Admission, SchedulingError
from radixcache.engine.chunk import Chunk, ChunkKind
from radixcache.engine.config import EngineConfig
from radixcache.engine.drafting import Drafts
from radixcache.engine.loading import Loading
from radixcache.engine.queue_limit import QueueLimit
from radixcache.engine.request import Sequence
from radixcache.engine.waiting import WaitingQueue
from radixcache.errors import OutOfBlocksError

__all__ = ["Scheduler", "SchedulingError"]

# A prefill of so few tokens costs a step no more than a decode does, and does not wait for longer ones.
_SHORT_PREFILL = 1
# Sequences that hold a lease, those that load included, for each that may run.
_LEASES = 2


class Scheduler:
    """Keeps the waiting and the running sequences. Used by the engine's thread alone.

    Attributes:
        waiting: those without a lease.
        loading: those with a lease whose cached tokens are on their way.
        running: in order of admission; each holds a lease.
        preemptions: how many sequences had to give their blocks back.
    """

    def __init__(
        self,
        cache: PrefixCache,
        config: EngineConfig,
        limit: QueueLimit,
        loading: Loading,
        drafts: Drafts | None = None,
    ) -> None:
        self._config = config
        self._limit = limit
        self._drafts = drafts
        self._decoding: dict[Sequence, int] = {}  # places of the last step's decodes
        self.waiting = WaitingQueue()
        self.running: list[Sequence] = []
        self.preemptions = 0
        self.loading = loading
        self._loaded: list[Sequence] = []  # what was loaded is there, and no place to run was
        self._admission = Admission(cache, config, self.waiting, loading.decide)

    @property
    def has_work(self) -> bool:
        """Anything waits, loads or runs, or a load has ended."""
        return bool(self.running or self._loaded or self.waiting or self.loading.busy)

    @property
    def places(self) -> int:
        """How many more sequences may run."""
        return self._config.max_running - len(self.running)

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence."""
        self.waiting.add(sequence)

    def schedule(self) -> list[Chunk]:
        """Admit what fits and share the step's token budget: decodes first, then prefill.

        Raises:
            SchedulingError: a waiting sequence does not fit even alone, or cannot be looked up.
        """
        self._admit()
        budget = self._config.max_batch_tokens
        if self._drafts is not None:
            self._drafts.extend(self.running, budget - len(self.running))
        decodes: list[Chunk] = []
        short: list[Chunk] = []
        long: list[tuple[Sequence, Lease, int]] = []
        for sequence in self.running:
            lease = sequence.lease
            assert lease is not None
            computed = lease.num_computed_tokens
            missing = lease.num_tokens - computed
            if sequence.decoding:
                kind = ChunkKind.VERIFY if missing > 1 else ChunkKind.DECODE
                decodes.append(Chunk(sequence, computed, missing, kind))
            elif missing <= _SHORT_PREFILL:
                short.append(Chunk(sequence, computed, missing, ChunkKind.PREFILL))
            else:
                long.append((sequence, lease, missing))
                continue
            budget -= missing
        self._order(decodes)
        chunks = decodes + short
        for sequence, lease, missing in long:
            if budget <= 0:
                break
            length = min(missing, budget)
            chunks.append(Chunk(sequence, lease.num_computed_tokens, length, ChunkKind.PREFILL))
            budget -= length
        return chunks

    def start_sibling(self, parent: Sequence, sibling: Sequence) -> None:
        """Let `sibling` run from where `parent` is, sharing all of its blocks; there must be a place."""
        assert parent.lease is not None
        sibling.lease = parent.lease.fork()
        self._run(sibling)

    def grow(self, sequence: Sequence, token: int) -> None:
        """Make room for one more token, preempting others if need be."""
        while sequence.lease is not None:
            try:
                sequence.lease.extend([token])
            except OutOfBlocksError:
                self._preempt()
            else:
                sequence.decoding = True
                return

    def remove(self, sequence: Sequence) -> None:
        """Take a finished, aborted or failed sequence out, wherever it is."""
        lease, sequence.lease = sequence.lease, None
        if lease is not None:
            if sequence in self.loading:
                self.loading.remove(sequence)
            elif sequence in self._loaded:
                self._loaded.remove(sequence)
            else:
                self.running.remove(sequence)
                self._limit.places = max(0, self.places)
            self._admission.pressed = False
            lease.release()
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    def restart(self) -> None:
        """Let every sequence that has a lease wait and begin again without it; the lease is not released.

        One that has ended, and was not removed yet, does not begin again.
        """
        loading = self.loading.sequences
        for sequence in loading:
            self.loading.remove(sequence)
        for sequence in reversed(self.running + self._loaded + loading):
            self._stop(sequence)
            self.preemptions += 1
        self.running.clear()
        self._loaded.clear()
        self._decoding.clear()
        self._admission.pressed = False

    def clear(self) -> None:
        """Drop every sequence; leases are not released."""
        self.restart()
        self.waiting.clear()

    def _order(self, decodes: list[Chunk]) -> None:
        """Make sequences that share a prefix neighbours: the tree's depth-first order.

        Appending a token does not change it, so it is sorted again only for other sequences. Comparing long
        shared prefixes takes time, and timsort compares little on nearly sorted input.
        """
        known, new = self._decoding, len(self._decoding)
        places = [known.get(chunk[0], new) for chunk in decodes]
        order = sorted(range(len(decodes)), key=places.__getitem__)
        decodes[:] = [decodes[at] for at in order]
        if len(decodes) != new or new in places:
            decodes.sort(key=_tokens_so_far)
            self._decoding = {chunk.sequence: place for place, chunk in enumerate(decodes)}

    def _preempt(self) -> None:
        """Take the blocks of the lowest priority's latest admitted sequence."""
        _, place = min((sequence.request.priority, -place) for place, sequence in enumerate(self.running))
        victim = self.running.pop(-place)
        lease = victim.lease
        self._stop(victim)
        assert lease is not None
        self.preemptions += 1
        self._admission.pressed = True
        lease.release()

    def _stop(self, sequence: Sequence) -> None:
        """Let a sequence that ran wait again, before all that never did, unless it has ended."""
        sequence.lease = None
        sequence.decoding = False
        if sequence.finish_reason is None:
            self.waiting.add_first(sequence)

    def _admit(self) -> None:
        while (done := self.loading.next_done()) is not None:
            self._take_loaded(*done)
        while self._loaded and self.places > 0:
            self._run(self._loaded.pop(0))
        wanted = self._missing() if self.waiting else 0
        blocked = False
        while self.waiting and self.places > len(self._loaded) and wanted < self._config.max_batch_tokens:
            leased = [*self.running, *self._loaded, *self.loading.sequences]
            if len(leased) >= _LEASES * self._config.max_running:
                break
            admitted = self._admission.next(leased)
            if admitted is None:
                blocked = True
                break
            sequence, lease = admitted
            self._start(sequence, lease)
            if sequence not in self.loading:
                wanted += lease.num_tokens - lease.num_computed_tokens
        self._limit.places = 0 if blocked else max(0, self.places)

    def _missing(self) -> int:
        """Tokens of the running sequences that are not computed."""
        leases = [sequence.lease for sequence in self.running]
        return sum(lease.num_tokens - lease.num_computed_tokens for lease in leases if lease is not None)

    def _start(self, sequence: Sequence, lease: Lease) -> None:
        sequence.lease = lease
        request = sequence.request
        loads = False
        try:
            loads = lease.loading and self.loading.start(sequence, lease)
        finally:
            if not loads:
                self._run(sequence)
        if not sequence.preempted:
            request.admitted_at = perf_counter()
            request.lease = lease
            self._describe(sequence)

    def _take_loaded(self, sequence: Sequence, num_tokens: int) -> None:
        """The first `num_tokens` tokens of a sequence that loads are there, and no more come."""
        lease = sequence.lease
        assert lease is not None
        self._loaded.append(sequence)
        try:
            lease.finish_loads(num_tokens)
            lease.fail_loads(num_tokens)
        except Exception as error:
            raise SchedulingError(sequence) from error
        if sequence.request.lease is lease:
            self._describe(sequence)

    def _describe(self, sequence: Sequence) -> None:
        """Note what is reused of a prompt; told again when loads are done."""
        request, lease = sequence.request, sequence.lease
        assert lease is not None
        request.cached_tokens = lease.num_cached_tokens
        request.misses = dict(lease.misses)
        request.diverged_at = lease.diverged_at
        request.handle.start(request.usage)

    def _run(self, sequence: Sequence) -> None:
        self.running.append(sequence)
        self._limit.places = max(0, min(self._limit.places, self.places))


def _tokens_so_far(chunk: Chunk) -> bytes | bytearray:
    assert chunk.sequence.lease is not None
    return chunk.sequence.lease.buffer
