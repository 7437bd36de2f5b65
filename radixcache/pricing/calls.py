"""Calls that are made as they are asked for, for logs that are not in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import overload

from radixcache.simulate.workload import Call

__all__ = ["MadeCalls"]


class MadeCalls(Sequence[Call]):
    """So many calls, each from a function of its number."""

    def __init__(self, count: int, make: Callable[[int], Call]) -> None:
        self._numbers = range(count)
        self._make = make

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Call: ...
    @overload
    def __getitem__(self, index: slice) -> list[Call]: ...
    def __getitem__(self, index: int | slice) -> Call | list[Call]:
        if isinstance(index, slice):
            return [self._make(number) for number in self._numbers[index]]
        return self._make(self._numbers[index])
