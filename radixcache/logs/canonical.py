"""A request in the form of this package's own logs, whatever format it was read from."""

from __future__ import annotations

from typing import Any

from radixcache.logs.record import LogRequest

__all__ = ["as_record"]


def as_record(entry: LogRequest) -> dict[str, Any]:
    """A record with all that was read of a request, which reads back as the same request.

    Raises:
        ValueError: the request is of block hashes.
    """
    if entry.blocks is not None:
        raise ValueError("a request of block hashes has no record of text")
    kwargs = dict(entry.template_kwargs)
    record: dict[str, Any] = {
        "session_id": entry.session,
        "timestamp": entry.timestamp,
        "model": entry.model,
        "adapter": entry.adapter,
        "cache_salt": entry.cache_salt,
        "messages": entry.messages,
        "tools": entry.tools,
        "prompt": entry.prompt,
        "prompt_token_ids": entry.prompt_token_ids,
        "chat_template_kwargs": kwargs or None,
        "max_tokens": entry.max_tokens,
        "response": entry.response,
    }
    return {name: value for name, value in record.items() if value is not None}
