"""Messages made into what chat templates take.

Logs hold what was sent to an API: null content, lists of parts, tool calls whose arguments are JSON text.
Templates want text content and arguments as objects, and many know nothing of tools. What a template does
not know is written into the text instead, in one fixed way, so that it counts as the prompt tokens it is.
"""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["Message", "normalise", "place_tools"]

Message = dict[str, Any]


def normalise(messages: list[Message], *, structured_calls: bool, tool_role: str = "tool") -> list[Message]:
    """Copy messages with text content, for a template that takes tool calls or one that does not.

    Args:
        messages: as logged; left untouched.
        structured_calls: keep `tool_calls`, with their arguments parsed; else append them to the content
            as JSON, one call a line.
        tool_role: the role that tool results get.
    """
    return [_normalise(message, structured_calls, tool_role) for message in messages]


def _normalise(message: Message, structured_calls: bool, tool_role: str) -> Message:
    result = {k: v for k, v in message.items() if k not in ("tool_calls", "function_call") and v is not None}
    result["content"] = _text(message.get("content"))
    if message["role"] in ("tool", "function"):
        result["role"] = tool_role
    calls = list(message.get("tool_calls") or [])
    if message.get("function_call"):
        calls.append({"type": "function", "function": message["function_call"]})
    if calls and structured_calls:
        result["tool_calls"] = [_with_parsed_arguments(call) for call in calls]
    elif calls:
        lines = [json.dumps(call.get("function", call), ensure_ascii=False) for call in calls]
        result["content"] = "\n".join([result["content"], *lines] if result["content"] else lines)
    return result


def _text(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "".join(part if isinstance(part, str) else part["text"] for part in content)


def _with_parsed_arguments(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        return call
    return {**call, "function": {**function, "arguments": arguments}}


def place_tools(
    messages: list[Message], tools: list[dict[str, Any]] | None, template: str
) -> tuple[list[Message], list[dict[str, Any]] | None]:
    """Messages and tools as a template is to be given them.

    A template that knows no `tools` gets the definitions at the end of the system message, made if there is
    none: one JSON object a line.
    """
    if not tools or re.search(r"\btools\b", template):
        return messages, tools
    listing = "\n".join(["Tools:", *(json.dumps(tool, ensure_ascii=False) for tool in tools)])
    if messages[0]["role"] != "system":
        return [{"role": "system", "content": listing}, *messages], None
    system = messages[0]
    return [{**system, "content": f"{system['content']}\n\n{listing}".lstrip()}, *messages[1:]], None
