"""Fields that no reader reads: whether they hold text, so that no part of a prompt is dropped silently."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

__all__ = ["unread_text"]


def unread_text(where: str, record: Mapping[str, Any], known: Collection[str]) -> tuple[str, ...]:
    """A note for each field of a record that is not `known` and holds text, at any depth.

    Args:
        where: what comes before a field's name in a note, such as `messages[].`.
        record: the object.
        known: fields that are read, or are known not to be part of a prompt.
    """
    return tuple(
        f"{where}{name} holds text that is not read as part of the prompt"
        for name, value in record.items()
        if name not in known and _holds_text(value)
    )


def _holds_text(value: Any) -> bool:
    pending = [value]
    while pending:
        value = pending.pop()
        if isinstance(value, str) and value.strip():
            return True
        if isinstance(value, Mapping):
            pending += value.values()
        elif isinstance(value, list):
            pending += value
    return False
