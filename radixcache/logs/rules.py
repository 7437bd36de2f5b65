"""How the lines of a log are read where its writer had other habits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["MAX_TEXT_BYTES", "LineRules"]

MAX_TEXT_BYTES = 8 * 2**20
"""What commands tokenize in one call unless told otherwise: it takes some 200 bytes of memory a byte."""


@dataclass(frozen=True, slots=True)
class LineRules:
    """Rules for every line of a log.

    Attributes:
        session_field: field (dotted path) that names the session, in place of `session_id` and `session`.
        time_field: field (dotted path) of the time, in place of `timestamp`.
        max_bytes: the longest line that is read, in bytes; None for `MAX_LINE_BYTES`.
        max_text_bytes: the longest line whose prompt is text, in bytes; None for no other limit.
    """

    session_field: str | None = None
    time_field: str | None = None
    max_bytes: int | None = None
    max_text_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("session_field", "time_field"):
            field = getattr(self, name)
            if field is not None and not all(field.split(".")):
                raise ValueError(f"{name} must be a field name or a dotted path, got {field!r}")

    def applied(self, record: dict[str, Any]) -> dict[str, Any]:
        """The record with its session and time where every format has them."""
        found = {
            name: _value(record, field)
            for name, field in (("session_id", self.session_field), ("timestamp", self.time_field))
            if field is not None
        }
        return {**record, **found} if found else record


def _value(record: dict[str, Any], field: str) -> Any:
    value: Any = record
    for name in field.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value
