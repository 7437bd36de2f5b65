"""Chat-completions requests: `messages`, optionally `tools`."""

from __future__ import annotations

from typing import Any

from radixcache.logs.fields import describe
from radixcache.logs.record import InvalidRecordError, Prompt

__all__ = ["parse_chat"]


def parse_chat(record: dict[str, Any]) -> Prompt:
    """Check `messages` and `tools` of a request body.

    `content` may be null, absent beside a tool call, text, or a list of text parts.

    Raises:
        InvalidRecordError: naming the field and what is wrong with it.
    """
    messages = record["messages"]
    if not isinstance(messages, list):
        raise InvalidRecordError(f"messages is {describe(messages)}, not a list")
    if not messages:
        raise InvalidRecordError("messages is empty")
    for i, message in enumerate(messages):
        _check_message(f"messages[{i}]", message)
    return Prompt(messages=messages, tools=_tools(record.get("tools")))


def _check_message(name: str, message: Any) -> None:
    if not isinstance(message, dict):
        raise InvalidRecordError(f"{name} is {describe(message)}, not an object")
    if "role" not in message:
        raise InvalidRecordError(f"{name}.role is missing")
    if not isinstance(message["role"], str):
        raise InvalidRecordError(f"{name}.role is {describe(message['role'])}, not a string")
    calls = message.get("tool_calls")
    if calls is not None:
        _check_tool_calls(f"{name}.tool_calls", calls)
    if "content" not in message and calls is None and "function_call" not in message:
        raise InvalidRecordError(f"{name}.content is missing")
    _check_content(f"{name}.content", message.get("content"))


def _check_content(name: str, content: Any) -> None:
    if content is None or isinstance(content, str):
        return
    if not isinstance(content, list):
        raise InvalidRecordError(f"{name} is {describe(content)}, not text, null or a list of parts")
    for i, part in enumerate(content):
        if isinstance(part, str):
            continue
        if not isinstance(part, dict):
            raise InvalidRecordError(f"{name}[{i}] is {describe(part)}, not an object")
        if not isinstance(part.get("text"), str):
            kind = part.get("type")
            what = f"of type {kind}" if isinstance(kind, str) else "without text"
            raise InvalidRecordError(f"{name}[{i}] is {what}; only text can be replayed")


def _check_tool_calls(name: str, calls: Any) -> None:
    if not isinstance(calls, list):
        raise InvalidRecordError(f"{name} is {describe(calls)}, not a list")
    for i, call in enumerate(calls):
        if not isinstance(call, dict):
            raise InvalidRecordError(f"{name}[{i}] is {describe(call)}, not an object")


def _tools(tools: Any) -> list[dict[str, Any]] | None:
    if tools is None:
        return None
    if not isinstance(tools, list):
        raise InvalidRecordError(f"tools is {describe(tools)}, not a list")
    for i, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise InvalidRecordError(f"tools[{i}] is {describe(tool)}, not an object")
    return tools or None
