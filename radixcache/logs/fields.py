"""The optional fields that formats share: session, time, limits, and who shares KV with whom."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

__all__ = [
    "SESSION_FIELDS",
    "TIME_FIELDS",
    "describe",
    "field_of",
    "read_count",
    "read_max_tokens",
    "read_text",
    "read_time",
]

SESSION_FIELDS = ("session_id", "session", "conversation_id", "thread_id", "chat_id")
TIME_FIELDS = ("timestamp", "created_at", "start_time")
_NANOSECONDS_ABOVE = 1e17
_MICROSECONDS_ABOVE = 1e14
_MILLISECONDS_ABOVE = 1e11
_MOST_TIME = 1e20
_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_LIMIT = 2**31


def describe(value: Any) -> str:
    """Name a JSON value in an error message: its kind, or the number itself."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:.6g}" if isinstance(value, float) else _shorten(value)
    return _NAMES[type(value)]


def _shorten(value: int) -> str:
    return str(value) if abs(value) < 10**20 else "a number of more than 20 digits"


def field_of(record: Mapping[str, Any], path: str) -> Any:
    """The value of a field; a dotted path leads into objects. None if it is absent."""
    value: Any = record
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def read_text(value: Any) -> str | None:
    """A value that names something, as text; None for what is no name."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value) or None


def read_time(value: Any, unit: str | None = None) -> float:
    """A point in time in seconds.

    Args:
        value: a number, digits, or a date of ISO 8601 (in UTC without an offset).
        unit: "s", "ms", "us" or "ns"; None to go by the size: a number above 1e17 is taken for nanoseconds
            since 1970, above 1e14 for microseconds, above 1e11 for milliseconds, any other for seconds.

    Raises:
        ValueError: if it is negative, not finite, or neither a number nor a date; says what it is.
    """
    if isinstance(value, str):
        try:
            value = float(value) if "." in value or "e" in value.lower() else int(value)
        except ValueError:
            value = _iso_seconds(value)
            unit = "s"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"is {describe(value)}, not a number or an ISO 8601 date")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"is {value}, not a time")
    if not 0 <= value < _MOST_TIME:
        raise ValueError(f"is {describe(value)}, outside 0 to {_MOST_TIME:g}")
    if unit is None:
        unit = (
            "ns"
            if value > _NANOSECONDS_ABOVE
            else "us"
            if value > _MICROSECONDS_ABOVE
            else "ms"
            if value > _MILLISECONDS_ABOVE
            else "s"
        )
    return value * _UNITS[unit]


def _iso_seconds(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(f"is {text[:40]!r}, not a number or an ISO 8601 date") from None
    if seconds < 0:
        raise ValueError(f"is {text[:40]!r}, before 1970")
    return seconds


def read_count(value: Any) -> int | None:
    """A whole number, also as digits or as a float that is whole; None for what is none."""
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 20:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and abs(value) < _LIMIT else None


def read_max_tokens(record: Mapping[str, Any], *names: str) -> tuple[int | None, tuple[str, ...]]:
    """The first limit on new tokens among some fields, and a note if it is odd.

    0, -1 and null mean no limit, as several servers have it.
    """
    for name in names:
        value = field_of(record, name)
        if value is None:
            continue
        count = read_count(value)
        if count is None or count < -1:
            return None, (f"{name} is not a number of tokens and is taken as absent",)
        return (count if count > 0 else None), ()
    return None, ()
