"""Anthropic Messages: `system` beside `messages`, and content in blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from radixcache.logs.bodies.common import read_common
from radixcache.logs.bodies.parts import (
    as_list,
    as_object,
    content_of,
    function_tool,
    json_text,
    object_list,
    system_message,
    tool_call,
)
from radixcache.logs.fields import describe
from radixcache.logs.media import media_part
from radixcache.logs.record import Body, InvalidRecordError, Message
from radixcache.logs.unread import unread_text

__all__ = ["claims", "read", "read_content", "read_messages"]

_FIELDS = ("messages", "system", "tools")
_BLOCKS = frozenset(
    ["tool_use", "tool_result", "thinking", "redacted_thinking", "server_tool_use", "web_search_tool_result"]
)
_MESSAGE_FIELDS = frozenset(
    ["role", "content", "id", "type", "model", "stop_reason", "stop_sequence", "usage", "container"]
)
_BODY_FIELDS = ("system", "anthropic_version")


def claims(body: Mapping[str, Any]) -> bool:
    """Whether a body is of this API: a field that only it has, its blocks of content, or its tools."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        return False
    if any(body.get(name) is not None for name in _BODY_FIELDS):
        return True
    tools = body.get("tools")
    if isinstance(tools, list) and any(isinstance(tool, dict) and "input_schema" in tool for tool in tools):
        return True
    return any(
        isinstance(part, dict) and _is_block(part)
        for message in messages
        if isinstance(message, dict) and isinstance(message.get("content"), list)
        for part in message["content"]
    )


def _is_block(part: Mapping[str, Any]) -> bool:
    """Whether a part is of a kind that only this API has; elsewhere images have no `source`."""
    kind = part.get("type")
    return isinstance(part.get("source"), dict) if kind in ("image", "document") else kind in _BLOCKS


def read(body: Mapping[str, Any]) -> Body:
    """Read a body: the system prompt becomes the first message, tool results messages of role `tool`.

    Raises:
        InvalidRecordError: naming the field and what is wrong with it.
    """
    system = content_of("system", body.get("system"), _text_part)
    messages, notes = read_messages("messages", body["messages"])
    common = read_common(body, _FIELDS)
    tools = object_list("tools", body.get("tools"))
    return Body(
        messages=[*system_message(system), *messages],
        tools=None if tools is None else [_tool(tool) for tool in tools],
        template_kwargs=common.template_kwargs,
        max_tokens=common.max_tokens,
        model=common.model,
        adapter=common.adapter,
        cache_salt=common.cache_salt,
        notes=common.notes + notes,
    )


def read_messages(name: str, messages: Any) -> tuple[list[Message], tuple[str, ...]]:
    """Messages in the form of chat completions, and notes on their fields that nobody reads.

    Raises:
        InvalidRecordError: naming the field and what is wrong with it.
    """
    if not as_list(name, messages):
        raise InvalidRecordError(f"{name} is empty")
    found: list[Message] = []
    notes: dict[str, None] = {}
    for i, message in enumerate(messages):
        where = f"{name}[{i}]"
        if not isinstance(as_object(where, message).get("role"), str):
            raise InvalidRecordError(f"{where}.role is {describe(message.get('role'))}, not a string")
        found += read_content(f"{where}.content", message["role"], message.get("content"))
        notes.update(dict.fromkeys(unread_text(f"{name}[].", message, _MESSAGE_FIELDS)))
    return found, tuple(notes)


def read_content(name: str, role: str, content: Any) -> Iterator[Message]:
    """The messages that one message's blocks become: tool results first, as they stand, then the rest.

    Raises:
        InvalidRecordError: naming the block and what is wrong with it.
    """
    if content is None or isinstance(content, str):
        yield {"role": role, "content": content or ""}
        return
    if not isinstance(content, list):
        raise InvalidRecordError(f"{name} is {describe(content)}, not text or a list of blocks")
    parts: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    thoughts: list[str] = []
    for i, block in enumerate(content):
        where = f"{name}[{i}]"
        if isinstance(block, str):
            parts.append({"type": "text", "text": block})
            continue
        kind = as_object(where, block).get("type")
        if kind == "tool_result":
            if parts:
                yield {"role": role, "content": parts}
                parts = []
            yield _tool_result(where, block)
        elif kind in ("tool_use", "server_tool_use", "mcp_tool_use"):
            calls.append(tool_call(block.get("id"), block.get("name"), block.get("input")))
        elif kind == "thinking":
            thoughts.append(str(block.get("thinking") or ""))
        elif kind == "redacted_thinking":
            parts.append(media_part(where, "file", block.get("data")))
        else:
            parts.append(_part(where, block))
    if parts or calls or thoughts or not content:
        message: Message = {"role": role, "content": parts}
        if calls:
            message["tool_calls"] = calls
        if thoughts:
            message["reasoning_content"] = "".join(thoughts)
        yield message


def _tool_result(name: str, block: Mapping[str, Any]) -> Message:
    content = content_of(f"{name}.content", block.get("content"), _part)
    result: Message = {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": content or ""}
    if "cache_control" in block:
        result["cache_control"] = block["cache_control"]
    return result


def _text_part(name: str, part: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(part.get("text"), str):
        raise InvalidRecordError(f"{name} is of type {part.get('type')}, not text")
    return {**part, "type": "text"}


def _part(name: str, part: Mapping[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    if isinstance(part.get("text"), str):
        return {**part, "type": "text"}
    marks = {"cache_control": part["cache_control"]} if "cache_control" in part else {}
    source = part.get("source")
    if kind in ("image", "document") and isinstance(source, dict):
        if isinstance(source.get("content"), list):
            texts = [str(p["text"]) for p in source["content"] if isinstance(p, dict) and "text" in p]
            return {"type": "text", "text": "".join(texts), **marks}
        if source.get("type") == "text" and isinstance(source.get("data"), str):
            return {"type": "text", "text": source["data"], **marks}
        return {**media_part(name, "image" if kind == "image" else "file", source), **marks}
    if kind == "search_result" or (isinstance(kind, str) and kind.endswith("_tool_result")):
        return {"type": "text", "text": json_text(part.get("content")), **marks}
    what = f"of type {kind}" if isinstance(kind, str) else "without text"
    raise InvalidRecordError(f"{name} is {what}, which is not known")


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    """A definition in the form of chat completions; what a server runs itself stays as it is."""
    if "input_schema" not in tool:
        return tool
    made = function_tool(tool.get("name"), tool.get("description"), tool["input_schema"])
    if "cache_control" in tool:
        made["cache_control"] = tool["cache_control"]
    return made
