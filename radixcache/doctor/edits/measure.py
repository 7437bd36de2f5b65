"""What a cache reuses of a rewritten log: gains are simulated, never estimated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from radixcache.cache.lease import Lease
from radixcache.cache.misses import MissReason
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.doctor.attribution import Progress, arrivals, attribute, default_size, enough_blocks
from radixcache.doctor.edits.what_if import WhatIf, rewritten
from radixcache.doctor.log import LogSource, retokenise
from radixcache.doctor.settings import DoctorSettings
from radixcache.logs.record import LogRequest
from radixcache.simulate.drive import drive
from radixcache.workload.spool import RecordSpool, TokenSpool, turns
from radixcache.workload.views import Request

__all__ = ["Measured", "Measurer", "reuse_of"]

_FULL_HIT = {str(MissReason.LAST_TOKEN): 1}


class Measured(NamedTuple):
    """A log through a cache.

    Attributes:
        prompt_tokens: of all prompts.
        cached_tokens: how many were reused.
    """

    prompt_tokens: int
    cached_tokens: int

    @property
    def missed_tokens(self) -> int:
        """How many had to be computed."""
        return self.prompt_tokens - self.cached_tokens

    @property
    def hit_rate(self) -> float:
        """Cached over prompt tokens, 0 to 1."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0


def reuse_of(spool: TokenSpool, settings: DoctorSettings) -> Measured:
    """The same as `attribute` counts, without saying why; errors as there."""
    prompt_tokens = sum(spool.prompt_tokens)
    if settings.ttl is not None:
        return Measured(prompt_tokens, attribute(spool, settings).cached_tokens)
    size, unit = default_size(spool, settings), spool.unit_tokens
    cache = PrefixCache(
        enough_blocks(spool, settings, size), size // unit, policy=settings.policy, explain=False
    )

    def measure(lease: Lease, request: Request) -> int:
        tokens = request.call.prompt_tokens
        full = lease.misses == _FULL_HIT
        cached = tokens - 1 if full else min(lease.num_cached_tokens * unit, tokens - 1)
        return cached - cached % size if settings.whole_blocks else cached

    requests = turns(spool, arrivals(spool, settings), outputs=settings.outputs)
    outcome = drive(cache, requests, settings.simulation(), measure, recompute_last=True)
    return Measured(prompt_tokens, sum(outcome.cached))


class Measurer:
    """Simulates a log after edits.

    Args:
        source: for its encoder.
        records, tokens: the log as it is.
        settings: how it is simulated.
        on_progress: told what is being measured.
    """

    def __init__(
        self,
        source: LogSource,
        records: RecordSpool,
        tokens: TokenSpool,
        settings: DoctorSettings,
        on_progress: Progress = lambda *_: None,
    ) -> None:
        self._source = source
        self._records = records
        self._tokens = tokens
        self._settings = settings
        self._on_progress = on_progress

    def measure(self, edits: Sequence[WhatIf], counts: Counter[str] | None = None) -> Measured | None:
        """What is reused after all these edits; None for a log of block hashes that would have to be read.

        `counts` is that of `rewritten`.

        Raises:
            LogError: a request cannot be tokenised any more.
        """
        requests, settings = rewritten(self.requests(), edits, self._settings, counts)
        if settings.namespace_by == self._settings.namespace_by and all(edit.make is None for edit in edits):
            return reuse_of(self._tokens, settings)
        if self._tokens.unit_tokens > 1:
            return None
        total = len(self._records)
        name = "measuring " + ", ".join(edit.text for edit in edits)
        spool = retokenise(
            requests,
            self._source.encoder(),
            settings,
            lambda done: None if done % 64 else self._on_progress(name, done, total),
        )
        self._on_progress(name, total, total)
        try:
            return reuse_of(spool, settings)
        finally:
            spool.close()

    def requests(self) -> Iterable[LogRequest]:
        """The log's requests again, those of block hashes left out."""
        return (entry for entry in self._records if entry is not None)
