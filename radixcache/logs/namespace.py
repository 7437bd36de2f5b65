"""Which cache namespace a request runs in."""

from __future__ import annotations

import json

from radixcache.errors import LogError
from radixcache.logs.fields import describe, field_of
from radixcache.logs.record import LogRequest

__all__ = [
    "SHARING_FIELDS",
    "check_namespace_field",
    "namespace_of",
    "readable_namespace",
    "sharing_namespace",
    "tenant_of",
]

SHARING_FIELDS = ("model", "adapter", "cache_salt")
"""Requests that differ in one of these share no KV: other weights make other keys and values."""

NAMESPACE_SEPARATOR = "\x1f"
"""Between these and the rest of a namespace's name."""


def check_namespace_field(field: str | None) -> None:
    """Refuse, with ValueError, what cannot be a field name or dotted path."""
    if field is not None and not all(field.split(".")):
        raise ValueError(f"namespace_by must be a field name or a dotted path, got {field!r}")


def namespace_of(entry: LogRequest, field: str | None) -> str | None:
    """The value of a field (dotted path) of the record, as text; None where it is absent.

    Raises:
        LogError: naming the line, if the value is a list or an object.
    """
    if field is None:
        return None
    value = field_of(entry.raw, field)
    if isinstance(value, dict | list):
        what = describe(value)
        raise LogError(f"{entry.source}, line {entry.line}: {field} is {what}, which cannot be a namespace")
    return None if value is None else str(value)


def sharing_namespace(entry: LogRequest, field: str | None, default: str = "") -> tuple[str, bool]:
    """The whole name of the namespace that a request runs in, and whether its record has the field.

    Model, adapter and cache salt come first, as far as they were logged; then the field's value.

    Args:
        field: as in `namespace_of`.
        default: in place of the value without a field.

    Raises:
        LogError: as `namespace_of`.
    """
    value = namespace_of(entry, field)
    tenant = default if field is None else value or ""
    shared = [entry.model, entry.adapter, entry.cache_salt]
    if field in SHARING_FIELDS:
        tenant = ""
    if any(shared) or NAMESPACE_SEPARATOR in tenant:
        tenant = json.dumps(shared) + NAMESPACE_SEPARATOR + tenant
    return tenant, value is not None


def tenant_of(namespace: str) -> str:
    """The part of a namespace's name that is not model, adapter and cache salt."""
    return namespace.rpartition(NAMESPACE_SEPARATOR)[2]


def readable_namespace(namespace: str) -> str:
    """A namespace's name for people: what it is made of, with commas."""
    shared, separator, tenant = namespace.partition(NAMESPACE_SEPARATOR)
    if not separator:
        return namespace
    return ", ".join(part for part in (*json.loads(shared), tenant) if part)
