"""The slow and plain way to find out what two sequences share, for all that is held against it."""

from __future__ import annotations

from collections.abc import Sequence


def lcp(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common prefix of two sequences."""
    count = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        count += 1
    return count
