"""The optional fields that every format shares: session, timestamp, max_tokens."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from radixcache.logs.record import InvalidRecordError

__all__ = ["describe", "parse_max_tokens", "parse_session", "parse_timestamp"]

_MICROSECONDS_ABOVE = 1e14
_MILLISECONDS_ABOVE = 1e11
_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}


def describe(value: Any) -> str:
    """Name a JSON value in an error message: its kind, or the number itself."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:.6g}" if isinstance(value, float) else _shorten(value)
    return _NAMES[type(value)]


def _shorten(value: int) -> str:
    return str(value) if abs(value) < 10**20 else "a number of more than 20 digits"


def parse_session(*records: dict[str, Any]) -> str | None:
    """The first `session_id` or `session` among the records, as text; null counts as absent.

    Raises:
        InvalidRecordError: if it is neither text nor an integer.
    """
    for record in records:
        for name in ("session_id", "session"):
            value = record.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, str | int):
                raise InvalidRecordError(f"{name} is {describe(value)}, not a string or an integer")
            return str(value)
    return None


def parse_timestamp(*records: dict[str, Any]) -> float | None:
    """The first `timestamp` among the records, in seconds; null counts as absent.

    A number above 1e14 is taken for microseconds and one above 1e11 for milliseconds since 1970, any other
    for seconds (since whenever). Text is read as ISO 8601, without an offset as UTC.

    Raises:
        InvalidRecordError: if it is negative, not finite, or neither a number nor an ISO date.
    """
    for record in records:
        value = record.get("timestamp")
        if value is None:
            continue
        if isinstance(value, str):
            return _iso_seconds(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidRecordError(f"timestamp is {describe(value)}, not a number or an ISO 8601 date")
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidRecordError(f"timestamp is {value}")
        if not 0 <= value < 1e18:
            raise InvalidRecordError(f"timestamp is {describe(value)}, outside 0 to 1e18")
        if value > _MICROSECONDS_ABOVE:
            return value / 1e6
        return value / 1e3 if value > _MILLISECONDS_ABOVE else float(value)
    return None


def _iso_seconds(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRecordError(f"timestamp is {text[:40]!r}, not a number or an ISO 8601 date") from None
    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if seconds < 0:
        raise InvalidRecordError(f"timestamp is {text[:40]!r}, before 1970")
    return seconds


def parse_max_tokens(record: dict[str, Any]) -> int | None:
    """`max_completion_tokens` or `max_tokens` of a request body; null counts as absent.

    Raises:
        InvalidRecordError: if it is not an integer of at least 1.
    """
    for name in ("max_completion_tokens", "max_tokens"):
        value = record.get(name)
        if value is None:
            continue
        if type(value) is not int:
            raise InvalidRecordError(f"{name} is {describe(value)}, not an integer")
        if value < 1:
            raise InvalidRecordError(f"{name} is {describe(value)}; at least 1 is needed")
        return value
    return None
