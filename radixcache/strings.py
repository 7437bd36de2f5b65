"""What two texts have in common at their beginnings and ends, by comparing slices."""

from __future__ import annotations

__all__ = ["common_end", "common_start"]

_STEP = 256


def common_start(left: str, right: str, left_at: int = 0, right_at: int = 0) -> int:
    """Number of characters that `left[left_at:]` and `right[right_at:]` begin with in common."""
    low, limit = 0, min(len(left) - left_at, len(right) - right_at)
    step = _STEP
    while low < limit:
        size = min(step, limit - low)
        start, other = left_at + low, right_at + low
        if left[start : start + size] == right[other : other + size]:
            low, step = low + size, step * 2
        else:
            limit, step = low + size - 1, max(1, size // 2)
    return low


def common_end(left: str, right: str, most: int | None = None) -> int:
    """Number of characters that two texts end with in common, at most `most`."""
    limit = min(len(left), len(right)) if most is None else most
    low, step = 0, _STEP
    while low < limit:
        size = min(step, limit - low)
        ends = (text[len(text) - low - size : len(text) - low] for text in (left, right))
        if next(ends) == next(ends):
            low, step = low + size, step * 2
        else:
            limit, step = low + size - 1, max(1, size // 2)
    return low
