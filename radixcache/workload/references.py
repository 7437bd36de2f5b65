"""Which blocks each request touches, as dense ids: what curves and bounds of a log are computed from."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radixcache.cache.digest import short_digests
from radixcache.tokens import TOKEN_BYTES
from radixcache.workload.workload import Call

__all__ = [
    "References",
    "block_digests",
    "block_references",
    "dense_ids",
    "read_references",
    "reference_lists",
]


@dataclass(frozen=True, slots=True)
class References:
    """The block references of a log, requests one after another.

    Attributes:
        ids: `[references]` int32, block ids 0, 1, 2, ... by first appearance.
        ends: `[requests]` int64; request `r` owns `ids[ends[r - 1]:ends[r]]`, head of the prompt first.
    """

    ids: NDArray[np.int32]
    ends: NDArray[np.int64]

    @property
    def num_blocks(self) -> int:
        """How many different blocks there are."""
        return int(self.ids.max()) + 1 if len(self.ids) else 0


def block_references(calls: Iterable[Call], block_units: int, unit_tokens: int = 1) -> Iterator[array[int]]:
    """For each call the dense ids (0, 1, 2, ... by first appearance) of its whole prompt blocks.

    A block is named by its namespace and everything up to its end, so two calls share an id exactly where
    they share that prefix. What does not fill a block is left out, and so is a block whose last unit stands
    for fewer than `unit_tokens` tokens. The calls are all read before the first result.

    Raises:
        ValueError: as `block_digests`.
    """
    yield from reference_lists(read_references(calls, block_units, unit_tokens))


def reference_lists(references: References) -> list[array[int]]:
    """The same references as an array of ids (type code `i`) for each request."""
    lists = []
    start = 0
    for end in references.ends.tolist():
        ids = array("i")
        ids.frombytes(references.ids[start:end].tobytes())
        lists.append(ids)
        start = end
    return lists


def read_references(calls: Iterable[Call], block_units: int, unit_tokens: int = 1) -> References:
    """The same as `block_references`, in two arrays: 4 bytes a reference, some 30 while it is made.

    Raises:
        ValueError: as `block_digests`.
    """
    digests = array("Q")
    ends = array("q")
    for found in block_digests(calls, block_units, unit_tokens):
        digests.extend(found)
        ends.append(len(digests))
    return References(dense_ids(np.frombuffer(digests, dtype=np.uint64)), np.frombuffer(ends, dtype=np.int64))


def block_digests(calls: Iterable[Call], block_units: int, unit_tokens: int = 1) -> Iterator[array[int]]:
    """For each call the 64-bit digests of its whole prompt blocks; nothing is kept from call to call.

    They are the first 64 bits of the cache's own: each stands for everything up to the block's end, and for
    the namespace. Among 10 million blocks the chance that any two agree by accident is about 3 in a million.

    Args:
        calls: requests in order of arrival.
        block_units: units a block.
        unit_tokens: tokens a unit.

    Raises:
        ValueError: `block_units` or `unit_tokens` below 1, or a call of more tokens than units though a unit
            is said to be one token.
    """
    for name, value in (("block_units", block_units), ("unit_tokens", unit_tokens)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    width = block_units * TOKEN_BYTES
    for call in calls:
        units = call.units
        count = len(units) // TOKEN_BYTES
        if unit_tokens == 1 and call.prompt_tokens > count:
            raise ValueError(
                f"{call.source}, line {call.line}: {call.prompt_tokens} tokens in {count} units; "
                "a unit is more than one token here"
            )
        blocks = min(count, call.prompt_tokens // unit_tokens) // block_units
        yield short_digests(call.namespace, units[: blocks * width], width)


def dense_ids(digests: NDArray[np.uint64]) -> NDArray[np.int32]:
    """Number digests 0, 1, 2, ... by first appearance, int32."""
    order = np.argsort(digests, kind="stable")
    ordered = digests[order]
    starts = np.empty(len(digests), dtype=bool)
    starts[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=starts[1:])
    del ordered
    firsts = order[starts]
    is_first = np.zeros(len(digests), dtype=bool)
    is_first[firsts] = True
    names = (np.cumsum(is_first, dtype=np.int32) - 1)[firsts]
    ids = np.empty(len(digests), dtype=np.int32)
    ids[order] = np.repeat(names, np.diff(np.append(np.flatnonzero(starts), len(digests))))
    return ids
