"""Attributes every missed token of a log to one cause, by driving the real cache with it.

`PrefixCache` says how many tokens were reused and why not more; its history is replaced by a `Lineage`, which
gives the same answers and also says which earlier request the prompt followed. What the cache cannot know is
decided here: whether the other namespace is another model's, what a time to live or a rule of whole blocks
would have cost, and how many tokens a unit of a hash trace is.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from radixcache.cache.lease import Lease
from radixcache.cache.misses import MissReason
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.cache.store import LeasedSequence
from radixcache.doctor.diagnosis.schema import CAUSES, Cause, LogCause
from radixcache.doctor.lineage import NOBODY, Lineage, Partner
from radixcache.doctor.settings import DoctorSettings
from radixcache.errors import LogError
from radixcache.logs.namespace import tenant_of
from radixcache.simulate.drive import drive
from radixcache.tokens import TOKEN_BYTES
from radixcache.workload.interleave import interleave
from radixcache.workload.spool import IndexedCall, TokenSpool, turns
from radixcache.workload.views import Request

__all__ = [
    "MOST_BLOCKS",
    "Attribution",
    "Progress",
    "arrivals",
    "attribute",
    "default_size",
    "enough_blocks",
]

MOST_BLOCKS = 1 << 22
"""A cache without a capacity keeps no more than this, so that no log can fill the memory."""

_HISTORY_TOKENS = 1 << 25
_MOST_HISTORY_TOKENS = 1 << 27
_HISTORY_ENDS = 1 << 18
_NUMBER = {cause: number for number, cause in enumerate(CAUSES)}

Progress = Callable[[str, int, int | None], None]


@dataclass(slots=True)
class Attribution:
    """What became of every request.

    Attributes:
        order: the calls in order of arrival.
        cached: tokens reused, by index of the call, as are all that follow.
        missed: tokens missed by cause, all requests together.
        by_cause: for each cause the tokens each request missed for it; only causes that occur.
        causes: the cause of most missed tokens, as an index into `CAUSES`.
        tokens: where the prompt left what was known, in units; -1 if it did not.
        partners: the earlier request that it followed until then, -1 if there is none.
        previous: the request before in the same session, -1 if there is none.
        lineage: all prompts as a trie.
    """

    order: Sequence[int]
    cached: array[int]
    missed: dict[str, int]
    by_cause: dict[str, array[int]]
    causes: array[int]
    tokens: array[int]
    partners: array[int]
    previous: array[int]
    lineage: Lineage

    @property
    def cached_tokens(self) -> int:
        """Of all requests."""
        return sum(self.cached)


def default_size(spool: TokenSpool, settings: DoctorSettings) -> int:
    """Tokens a block: as set, else 16, or what a hash stands for; ValueError if that does not fit."""
    size = settings.block_size or (16 if spool.unit_tokens == 1 else spool.unit_tokens)
    if size % spool.unit_tokens:
        raise ValueError(
            f"block_size must be a multiple of {spool.unit_tokens}, the log's block size, got {size}"
        )
    return size


def enough_blocks(spool: TokenSpool, settings: DoctorSettings, block_size: int) -> int:
    """The capacity as set, or what suffices for all requests at once, but at most `MOST_BLOCKS`."""
    if settings.capacity is not None:
        return settings.capacity
    units = block_size // spool.unit_tokens
    sizes = zip(spool.prompt_units, spool.output_units, strict=True)
    return min(MOST_BLOCKS, 1 + sum(-(-(prompt + output) // units) for prompt, output in sizes))


def arrivals(spool: TokenSpool, settings: DoctorSettings) -> Sequence[int]:
    """Indices of the calls in the order in which they reach the cache.

    Raises:
        LogError: a timestamp is needed and missing.
    """
    count = len(spool)
    if settings.arrivals == "timestamps" or settings.ttl is not None:
        for index in range(count):
            if spool.timestamp(index) is None:
                source = spool.source_names.texts[spool.sources[index]]
                what = "timestamp is missing; arrivals by timestamp and times to live need it"
                raise LogError(f"{source}, line {spool.lines[index]}: {what}")
    if settings.arrivals == "timestamps":
        return array("i", sorted(range(count), key=spool.timestamps.__getitem__))
    if settings.interleave is not None:
        sessions = spool.sessions
        return array(
            "i",
            interleave(range(count), settings.interleave, lambda i: None if sessions[i] < 0 else sessions[i]),
        )
    return range(count)


def attribute(
    spool: TokenSpool, settings: DoctorSettings, on_progress: Progress = lambda *_: None
) -> Attribution:
    """Drive a cache with a log and say where every token that was not reused went.

    Raises:
        ValueError: the block size does not fit the log's hashes.
        LogError: a timestamp is needed and missing.
    """
    return _Attributor(spool, settings).run(on_progress)


class _Attributor:
    def __init__(self, spool: TokenSpool, settings: DoctorSettings) -> None:
        self._spool = spool
        self._settings = settings
        self._size = default_size(spool, settings)
        count = len(spool)
        self._order = arrivals(spool, settings)
        limit = _HISTORY_TOKENS
        if settings.capacity is not None:
            wanted = 4 * settings.capacity * self._size // spool.unit_tokens
            limit = max(limit, min(wanted, _MOST_HISTORY_TOKENS))
        lineage = Lineage(limit, _HISTORY_ENDS)
        self._entries: dict[LeasedSequence, tuple[int, int]] = {}  # request and units reused of each lease
        self._cache = PrefixCache(
            enough_blocks(spool, settings, self._size),
            self._size // spool.unit_tokens,
            policy=settings.policy,
            history=lineage,
            on_release=self._enter,
        )
        zeros, nobody = bytes(8 * count), array("i", [NOBODY]) * count
        self._found = Attribution(
            order=self._order,
            cached=array("q", zeros),
            missed={},
            by_cause={},
            causes=array("b", bytes(count)),
            tokens=nobody[:],
            partners=nobody[:],
            previous=nobody,
            lineage=lineage,
        )

    def run(self, on_progress: Progress) -> Attribution:
        found, spool, settings = self._found, self._spool, self._settings
        requests = turns(spool, self._order, outputs=settings.outputs)
        self._link_sessions()
        outcome = drive(
            self._cache,
            requests,
            settings.simulation(),
            self._measure,
            recompute_last=True,
            on_progress=lambda done: on_progress("diagnosing", done, len(requests)),
        )
        for place in outcome.too_large:
            index = self._order[place]
            self._put(index, LogCause.TOO_LARGE, spool.prompt_tokens[index])
            found.causes[index] = _NUMBER[LogCause.TOO_LARGE]
        on_progress("diagnosing", len(requests), len(requests))
        return found

    def _enter(self, lease: LeasedSequence) -> None:
        """Tell the lineage which request the sequence it is about to be given is of."""
        lineage = self._found.lineage
        lineage.entering, lineage.entering_cached = self._entries.pop(lease)

    def _link_sessions(self) -> None:
        last: dict[int, int] = {}
        for index in self._order:
            session = self._spool.sessions[index]
            if session >= 0:
                self._found.previous[index] = last.get(session, NOBODY)
                last[session] = index

    def _measure(self, lease: Lease, request: Request) -> int:
        call = request.call
        assert isinstance(call, IndexedCall)
        found, lineage, index = self._found, self._found.lineage, call.index
        partner, lineage.found = lineage.found, None
        cached, spans = self._spans(lease, call, partner)
        if self._settings.ttl is not None:
            fresh = min(cached, self._fresh(call, self._settings.ttl) * self._spool.unit_tokens)
            cached, spans = _shorten(cached, fresh, LogCause.EXPIRED, spans)
        if self._settings.whole_blocks:
            cached, spans = _shorten(cached, cached - cached % self._size, MissReason.PARTIAL_BLOCK, spans)
        at, most = cached, 0
        for cause, stop in spans:
            missed = stop - at
            if missed > 0:
                at = stop
                self._put(index, cause, missed)
                if missed > most:
                    most, found.causes[index] = missed, _NUMBER[cause]
        found.cached[index] = cached
        self._entries[lease] = index, cached // self._spool.unit_tokens
        if partner is not None:
            self._part(index, lease.diverged_at, cached, spans, partner)
        return cached

    def _spans(
        self, lease: Lease, call: IndexedCall, partner: Partner | None
    ) -> tuple[int, list[tuple[Cause, int]]]:
        """Tokens reused, and what follows them as causes, each with the token where it ends."""
        unit, prompt_tokens = self._spool.unit_tokens, call.prompt_tokens
        misses = lease.misses
        if set(misses) == {MissReason.LAST_TOKEN}:
            return prompt_tokens - 1, [(MissReason.LAST_TOKEN, prompt_tokens)]
        end = lease.num_cached_tokens
        cached = min(end * unit, prompt_tokens - 1)
        spans: list[tuple[Cause, int]] = []
        for reason, missed in misses.items():
            end += missed
            cause: Cause = MissReason(reason)
            if cause == MissReason.OTHER_NAMESPACE and partner is not None:
                tenant = tenant_of(call.namespace)
                if any(tenant_of(str(other)) == tenant for other in partner.namespaces):
                    cause = LogCause.MODEL_CHANGED
            spans.append((cause, min(end * unit, prompt_tokens)))
        return cached, spans

    def _fresh(self, call: IndexedCall, ttl: float) -> int:
        """Leading units of a prompt that were used within the time to live."""
        times, now = self._spool.timestamps, call.timestamp
        assert now is not None
        for start, edge in self._found.lineage.path(call.units):
            if times[edge.last] < now - ttl:
                return start // TOKEN_BYTES
        return len(call.units) // TOKEN_BYTES

    def _part(
        self,
        index: int,
        diverged_at: int | None,
        cached: int,
        spans: Sequence[tuple[Cause, int]],
        partner: Partner,
    ) -> None:
        """Note where a prompt left what was known, and whose that was."""
        found = self._found
        if any(cause in (MissReason.OTHER_NAMESPACE, LogCause.MODEL_CHANGED) for cause, _ in spans):
            found.partners[index] = partner.elsewhere
        else:
            found.partners[index] = partner.here
        if diverged_at is not None:
            found.tokens[index] = diverged_at
        elif not cached and spans[0][0] == MissReason.NEVER_SEEN and partner.here != NOBODY:
            found.tokens[index] = 0  # it differs from all others in the very first token

    def _put(self, index: int, cause: Cause, tokens: int) -> None:
        name = str(cause)
        column = self._found.by_cause.get(name)
        if column is None:
            column = self._found.by_cause[name] = array("i", bytes(4 * len(self._spool)))
        column[index] += tokens
        self._found.missed[name] = self._found.missed.get(name, 0) + tokens


def _shorten(
    cached: int, left: int, cause: Cause, spans: list[tuple[Cause, int]]
) -> tuple[int, list[tuple[Cause, int]]]:
    """What is reused cut to `left`, the rest attributed to a cause."""
    return (left, [(cause, cached), *spans]) if left < cached else (cached, spans)
