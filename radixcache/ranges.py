"""Range checks for settings."""

from __future__ import annotations

from numbers import Real
from operator import index
from typing import Any

__all__ = ["check_bool", "check_int", "check_positive", "is_number"]

_LEAST, _MOST = 1e-9, 1e15


def check_int(name: str, value: Any, *, least: int | None = None, most: int | None = None) -> int:
    """An integer in range as an int; numpy's integers are accepted, bools and floats are not.

    Raises:
        ValueError: names the value and what it must be.
    """
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        raise ValueError(f"{name} must be an integer, got {value!r}")
    number = index(value)
    if least is not None and number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    if most is not None and number > most:
        raise ValueError(f"{name} must be at most {most}, got {number}")
    return number


def is_number(value: Any) -> bool:
    """Whether a value is an int or float, numpy's included, but not a bool; it may be infinite or NaN."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_bool(name: str, value: Any) -> bool:
    """True or False itself; ValueError for any other value."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return value


def check_positive(name: str, value: float) -> None:
    """Refuse, with ValueError, what is not above 0, or so small or large that sums over a log overflow."""
    if not value > 0:
        raise ValueError(f"{name} must be above 0, got {value:g}")
    if not _LEAST <= value <= _MOST:
        raise ValueError(f"{name} must be from {_LEAST:g} to {_MOST:g}, got {value:g}")
