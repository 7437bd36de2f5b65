"""What the APIs' messages have in common: parts of content, tool calls, and the checks of both."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from radixcache.logs.fields import describe
from radixcache.logs.record import InvalidRecordError, Message

__all__ = [
    "as_list",
    "as_object",
    "content_of",
    "function_tool",
    "json_text",
    "object_list",
    "system_message",
    "tool_call",
]


def as_object(name: str, value: Any) -> Mapping[str, Any]:
    """An object; InvalidRecordError names the field of anything else."""
    if not isinstance(value, dict):
        raise InvalidRecordError(f"{name} is {describe(value)}, not an object")
    return value


def as_list(name: str, value: Any) -> list[Any]:
    """A list; InvalidRecordError names the field of anything else."""
    if not isinstance(value, list):
        raise InvalidRecordError(f"{name} is {describe(value)}, not a list")
    return value


def object_list(name: str, value: Any) -> list[dict[str, Any]] | None:
    """A list of objects; None for null and for an empty list."""
    if value is None:
        return None
    items = as_list(name, value)
    for i, item in enumerate(items):
        as_object(f"{name}[{i}]", item)
    return items or None


def json_text(value: Any) -> str:
    """Text as it is, any other value as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def tool_call(call_id: Any, name: Any, arguments: Any) -> dict[str, Any]:
    """A tool call in the form of chat completions: arguments are JSON text."""
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": json_text({} if arguments is None else arguments)},
    }


def function_tool(name: Any, description: Any, parameters: Any) -> dict[str, Any]:
    """A tool's definition in the form of chat completions, without what is null."""
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": {k: v for k, v in function.items() if v is not None}}


def content_of(
    name: str, content: Any, read_part: Callable[[str, Mapping[str, Any]], dict[str, Any] | None]
) -> str | list[dict[str, Any]] | None:
    """Content in one form: null, text, or parts.

    Args:
        name: the field, for errors.
        content: as logged; a list may hold plain text beside parts.
        read_part: makes a part of one as logged; None for one that is no content.

    Raises:
        InvalidRecordError: it is none of these.
    """
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRecordError(f"{name} is {describe(content)}, not text, null or a list of parts")
    parts = []
    for i, part in enumerate(content):
        if isinstance(part, str):
            parts.append({"type": "text", "text": part})
            continue
        read = read_part(f"{name}[{i}]", as_object(f"{name}[{i}]", part))
        if read is not None:
            parts.append(read)
    return parts


def system_message(content: str | list[dict[str, Any]] | None) -> list[Message]:
    """The system message of an API that has it beside the messages; none if it is empty."""
    return [{"role": "system", "content": content}] if content else []
