"""Sequences whose cached prefix is on its way from lower tiers into the pool."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from radixcache.cache.lease import BlockCopy, Lease
from radixcache.cache.loads import BlockLoad, LowerHit
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.engine.request import Sequence

_logger = logging.getLogger("radixcache.engine")


class LoadJob(Protocol):
    """Loads that were started."""

    def cancel(self) -> None:
        """Nothing is wanted any more. `done` is called all the same, once nothing more is written."""


class Loader(Protocol):
    """Fills blocks of the pool from lower tiers."""

    def worth(self, hit: LowerHit) -> int:
        """How many of a hit's tokens to load rather than to compute."""

    def start(self, loads: SequenceOf[BlockLoad], done: Callable[[int], None]) -> LoadJob:
        """Start filling the blocks, in order, and return at once.

        Args:
            loads: the blocks, which have been cleared, or will be by what is queued on the device's stream.
            done: to be called once, from any thread, with the number of loads, from the first one on, that
                succeeded; nothing may be written afterwards.

        Raises:
            Exception: nothing was started, and `done` will not be called.
        """

    def close(self) -> None:
        """Give all loads up; when it returns nothing more is written."""


Prepare = Callable[[SequenceOf[int], SequenceOf[BlockCopy]], None]
Renewed = Callable[[SequenceOf[int]], None]


@dataclass(slots=True, eq=False)
class _Pending:
    lease: Lease
    loads: tuple[BlockLoad, ...]
    job: LoadJob | None = None
    loaded: int | None = None


class Loading:
    """Keeps the sequences between waiting and running.

    A load that fails is a shorter hit. A sequence that leaves while its blocks are written leaves them
    draining until the loader is done. All but `done` is used by the engine's thread alone.

    Attributes:
        wake: called, on any thread, when a load is done.
    """

    def __init__(self, cache: PrefixCache, loader: Loader | None, prepare: Prepare, renewed: Renewed) -> None:
        """Load nothing yet.

        Args:
            cache: what the leases are of.
            loader: None where no lower tier is.
            prepare: clears blocks and does copies in the pool.
            renewed: told which blocks a load has filled, before anything reads them.
        """
        self.wake: Callable[[], None] = lambda: None
        self._cache = cache
        self._loader = loader
        self._prepare = prepare
        self._renewed = renewed
        self._pending: dict[Sequence, _Pending] = {}
        self._done: deque[_Pending] = deque()

    def __len__(self) -> int:
        return len(self._pending)

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self._pending

    @property
    def busy(self) -> bool:
        """Anything loads, or was loaded and has not been taken in."""
        return bool(self._pending or self._done)

    @property
    def sequences(self) -> list[Sequence]:
        """Those that load; each holds a lease."""
        return list(self._pending)

    @property
    def decide(self) -> Callable[[LowerHit], int]:
        """How many tokens of a hit to load, as `PrefixCache.acquire` asks it."""
        return _nothing if self._loader is None else self._loader.worth

    def start(self, sequence: Sequence, lease: Lease) -> bool:
        """Start a lease's loads; False if that is impossible, and the lease has a shorter hit."""
        pending = _Pending(lease, lease.loads)
        try:
            assert self._loader is not None
            self._prepare(lease.fresh_blocks, lease.copies)
            lease.finish_copies()
            pending.job = self._loader.start(pending.loads, partial(self._report, pending))
        except Exception:
            _logger.exception(
                "request %s computes what could not be loaded", sequence.request.handle.request_id
            )
            lease.fail_loads()
            return False
        self._pending[sequence] = pending
        return True

    def next_done(self) -> tuple[Sequence, int] | None:
        """Take out a sequence whose loads are done, and how many of its tokens are there; None if none is."""
        while self._done:
            pending = self._done.popleft()
            loads = pending.loads
            sequence = next((key for key, value in self._pending.items() if value is pending), None)
            if sequence is None:  # it left
                self._cache.drained([load.target for load in loads])
                continue
            del self._pending[sequence]
            loaded = self._settled(loads[: max(pending.loaded or 0, 0)])
            return sequence, loads[loaded - 1].start + loads[loaded - 1].num_tokens if loaded else 0
        return None

    def _settled(self, loaded: SequenceOf[BlockLoad]) -> int:
        """How many of the blocks that were loaded can be read: all, unless the executor cannot be told."""
        try:
            if loaded:
                self._renewed([load.target for load in loaded])
        except Exception:
            _logger.exception("loaded blocks are computed again: the executor could not be told of them")
            return 0
        return len(loaded)

    def remove(self, sequence: Sequence) -> None:
        """A sequence that loads leaves; its lease is to be released."""
        pending = self._pending.pop(sequence)
        if pending.job is not None:
            try:
                pending.job.cancel()
            except Exception:
                _logger.exception("a load could not be cancelled")

    def close(self) -> None:
        """Nothing is written by any load any more."""
        self._pending.clear()
        if self._loader is not None:
            self._loader.close()

    def _report(self, pending: _Pending, loaded: int) -> None:
        if pending.loaded is None:
            pending.loaded = loaded
            self._done.append(pending)
            self.wake()


def _nothing(_hit: LowerHit) -> int:
    return 0
