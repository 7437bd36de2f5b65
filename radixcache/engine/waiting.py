"""The queue of waiting sequences."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice

from radixcache.engine.request import Sequence


class WaitingQueue:
    """Sequences by priority, highest first, and in order of arrival among equals.

    A preempted sequence returns before all that arrived. Sequences that are overtaken by later ones, by
    priority or otherwise, count that (`Sequence.passes`), so that the oldest can be given its turn.
    """

    def __init__(self) -> None:
        self._ranked: list[Sequence] = []
        self._arrivals: OrderedDict[Sequence, None] = OrderedDict()
        self._first = self._last = 0  # arrival numbers given out at either end

    def __len__(self) -> int:
        return len(self._ranked)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._ranked)

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self._arrivals

    @property
    def oldest(self) -> Sequence:
        """The one that arrived first."""
        return next(iter(self._arrivals))

    def head(self, count: int) -> list[Sequence]:
        """The first `count`, by priority and arrival."""
        return self._ranked[:count]

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence behind all of its priority."""
        self._last += 1
        self._insert(sequence, self._last)

    def add_first(self, sequence: Sequence) -> None:
        """Queue a sequence that ran before all of its priority."""
        self._first -= 1
        self._insert(sequence, self._first)
        self._arrivals.move_to_end(sequence, last=False)

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out that waits."""
        place = bisect_left(self._ranked, sequence.rank, key=_rank)
        del self._ranked[place]
        del self._arrivals[sequence]

    def admit(self, sequence: Sequence, counted: int) -> None:
        """Take a sequence out that is to run; it overtakes those of the `counted` oldest that came before."""
        for earlier in islice(self._arrivals, counted):
            if earlier is sequence:
                break
            earlier.passes += 1
        self.remove(sequence)

    def clear(self) -> None:
        """Drop all."""
        self._ranked.clear()
        self._arrivals.clear()

    def _insert(self, sequence: Sequence, arrival: int) -> None:
        sequence.rank = (-sequence.request.priority, arrival)
        insort(self._ranked, sequence, key=_rank)
        self._arrivals[sequence] = None


def _rank(sequence: Sequence) -> tuple[int, int]:
    return sequence.rank
