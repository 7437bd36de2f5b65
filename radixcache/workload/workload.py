"""What a cache sees of a log: the requests in order, and what one unit of a prompt stands for."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, overload

__all__ = ["Call", "LazySequence", "LoggedCalls", "Workload", "count_sessions", "default_block_size"]

Item_co = TypeVar("Item_co", covariant=True)
_TEXT_BLOCK = 16


@dataclass(frozen=True, slots=True)
class Call:
    """One request as the cache sees it.

    Attributes:
        namespace: the cache namespace it runs in.
        units: the prompt, packed int32 (see `radixcache.tokens`). A unit is one token of a log of text or
            token ids, and one block of a hash trace, numbered densely by first appearance.
        prompt_tokens: tokens of the prompt; in a trace the last unit may stand for fewer than the others.
        output: the answer, packed like `units`; empty if it is unknown.
        output_tokens: tokens of the answer, 0 if unknown.
        session: the conversation it belongs to.
        timestamp: seconds; only differences between calls mean anything.
        source, line: its place in the log.
    """

    namespace: str
    units: bytes
    prompt_tokens: int
    output: bytes
    output_tokens: int
    session: str | None
    timestamp: float | None
    source: str
    line: int


class LoggedCalls(Protocol):
    """A log as a cache sees it, in memory (`Workload`) or on disk (`TokenSpool`)."""

    @property
    def unit_tokens(self) -> int:
        """Tokens that a unit stands for: 1 for text and token ids."""

    @property
    def calls(self) -> Sequence[Call]:
        """The requests in the order of the log; on disk each is read when it is asked for."""

    @property
    def message_ends(self) -> Sequence[Sequence[int] | None] | None:
        """Where the messages of each prompt end, in tokens, ascending; None for a prompt, or for the whole
        log, of which that is not known."""

    @property
    def counted_answers(self) -> int:
        """Answers whose length is not logged but was counted from their text."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A log in memory.

    Attributes:
        unit_tokens, calls, message_ends, counted_answers: as in `LoggedCalls`.
    """

    unit_tokens: int
    calls: Sequence[Call]
    message_ends: Sequence[Sequence[int] | None] | None = None
    counted_answers: int = 0


def default_block_size(workload: LoggedCalls) -> int:
    """Blocks of 16 tokens for text and token ids, and the trace's own for hashes."""
    return _TEXT_BLOCK if workload.unit_tokens == 1 else workload.unit_tokens


def count_sessions(sessions: Iterable[Hashable | None]) -> int:
    """Number of different sessions, of which every request without one (None) is another."""
    named: set[Hashable] = set()
    alone = 0
    for session in sessions:
        if session is None:
            alone += 1
        else:
            named.add(session)
    return len(named) + alone


class LazySequence(Sequence[Item_co]):
    """A sequence whose items are made when they are asked for.

    Args:
        count: its length.
        make: makes an item of its index.
    """

    def __init__(self, count: int, make: Callable[[int], Item_co]) -> None:
        self._indices = range(count)
        self._make = make

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Item_co: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item_co]: ...
    def __getitem__(self, index: int | slice) -> Item_co | list[Item_co]:
        if isinstance(index, slice):
            return [self._make(number) for number in self._indices[index]]
        return self._make(self._indices[index])
