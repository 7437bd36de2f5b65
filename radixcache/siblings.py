"""The keys of one node's children in byte order, for finding a query's neighbours among them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator

_CHUNK = 512


class SiblingOrder:
    """A sorted set of byte strings, kept in chunks of at most 512.

    Adding, removing and looking up cost two bisections and a memmove within a chunk.  (A
    sortedcontainers.SortedList does the same, but finds neighbours by their rank, for which it
    has to rebuild its index after every change.)
    """

    __slots__ = ("_chunks", "_firsts")

    def __init__(self, keys: Iterable[bytes]) -> None:
        ordered = sorted(keys)
        half = _CHUNK // 2
        self._chunks = [ordered[i : i + half] for i in range(0, len(ordered), half)] or [[]]
        self._firsts = [chunk[0] if chunk else b"" for chunk in self._chunks]

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            yield from chunk

    def add(self, key: bytes) -> None:
        """Add a key that is not there."""
        index = self._chunk(key)
        chunk = self._chunks[index]
        insort(chunk, key)
        self._firsts[index] = chunk[0]
        if len(chunk) > _CHUNK:
            upper = chunk[_CHUNK // 2 :]
            del chunk[_CHUNK // 2 :]
            self._chunks.insert(index + 1, upper)
            self._firsts.insert(index + 1, upper[0])

    def remove(self, key: bytes) -> None:
        """Remove a key that is there."""
        index = self._chunk(key)
        chunk = self._chunks[index]
        del chunk[bisect_left(chunk, key)]
        if chunk:
            self._firsts[index] = chunk[0]
        elif len(self._chunks) > 1:
            del self._chunks[index], self._firsts[index]

    def neighbours(self, key: bytes) -> list[bytes]:
        """The last key before `key`, and `key` itself or the first one after it; those there are."""
        index = self._chunk(key)
        chunk = self._chunks[index]
        at = bisect_left(chunk, key)
        found = chunk[max(at - 1, 0) : at + 1]
        if at == len(chunk) and index + 1 < len(self._chunks):
            found.append(self._firsts[index + 1])
        return found

    def _chunk(self, key: bytes) -> int:
        return max(bisect_right(self._firsts, key) - 1, 0)
