"""Which cache namespace a request runs in."""

from __future__ import annotations

from typing import Any

from radixcache.errors import LogError
from radixcache.logs.fields import describe
from radixcache.logs.record import LogRequest

__all__ = ["check_namespace_field", "namespace_of"]


def check_namespace_field(field: str | None) -> None:
    """Refuse, with ValueError, what is no field name or dotted path."""
    if field is not None and not all(field.split(".")):
        raise ValueError(f"namespace_by is {field!r}; a field name or a dotted path is needed")


def namespace_of(entry: LogRequest, field: str | None) -> str | None:
    """The value of a field (dotted path) of the record, as text; None where it is absent.

    Raises:
        LogError: naming the line, if the value is a list or an object.
    """
    if field is None:
        return None
    value: Any = entry.raw
    for name in field.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, dict | list):
        what = describe(value)
        raise LogError(f"{entry.source}, line {entry.line}: {field} is {what}, no name for a namespace")
    return None if value is None else str(value)
