"""How the lines of a log are read where its writer had other habits."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MAX_TEXT_BYTES", "LineRules"]

MAX_TEXT_BYTES = 8 * 2**20
"""What commands tokenize in one call unless told otherwise: it takes some 200 bytes of memory a byte."""

_UNITS = ("s", "ms", "us", "ns")


@dataclass(frozen=True, slots=True)
class LineRules:
    """Rules for every line of a log.

    Attributes:
        session_field: field (dotted path) that names the session, if the formats do not know its name.
        time_field: field (dotted path) of the time, likewise.
        prompt_field: field (dotted path) of the prompt, likewise: text, messages, token ids or a body.
        time_unit: "s", "ms", "us" or "ns" of numbers that are times; None to go by the format and their size.
        max_bytes: the longest line that is read, in bytes; None for `MAX_LINE_BYTES`.
        max_text_bytes: the longest line whose prompt is text, in bytes; None for no other limit.
    """

    session_field: str | None = None
    time_field: str | None = None
    prompt_field: str | None = None
    time_unit: str | None = None
    max_bytes: int | None = None
    max_text_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("session_field", "time_field", "prompt_field"):
            field = getattr(self, name)
            if field is not None and not all(field.split(".")):
                raise ValueError(f"{name} must be a field name or a dotted path, got {field!r}")
        if self.time_unit not in (None, *_UNITS):
            raise ValueError(f"time_unit must be one of {', '.join(_UNITS)}, got {self.time_unit!r}")
