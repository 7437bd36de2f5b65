"""Numbers that can be reckoned with."""

from __future__ import annotations

__all__ = ["check_positive"]

_LEAST, _MOST = 1e-9, 1e15


def check_positive(name: str, value: float) -> None:
    """Refuse, with ValueError, what is not above 0, or so small or large that sums over a log overflow."""
    if not value > 0:
        raise ValueError(f"{name} is {value}; a number above 0 is needed")
    if not _LEAST <= value <= _MOST:
        raise ValueError(f"{name} is {value}; a number from {_LEAST:g} to {_MOST:g} is needed")
