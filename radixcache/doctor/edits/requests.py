"""Requests with other contents than were logged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from radixcache.logs.record import LogRequest

__all__ = ["changed"]


def changed(entry: LogRequest, **fields: Any) -> LogRequest:
    """A request with other `messages`, `tools` or `prompt`, in its record, too."""
    raw = entry.raw
    body = raw.get("body")
    if isinstance(body, dict) and all(raw.get(name) is None for name in ("messages", "prompt")):
        return replace(entry, raw={**raw, "body": {**body, **fields}}, **fields)
    return replace(entry, raw={**raw, **fields}, **fields)
