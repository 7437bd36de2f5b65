"""Messages made into what chat templates take.

What is sent to an API has null content, lists of parts, and tool calls whose arguments are JSON text.
Templates want text content and arguments as objects, and many know nothing of tools. What a template does
not know is written into the text instead, in one fixed way, so that it counts as the prompt tokens it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from radixcache.prompts.media import is_media, media_mark, without_marks

__all__ = ["Message", "check_messages", "normalise", "place_tools"]

Message = dict[str, Any]


def check_messages(messages: Any, tools: Any = None, *, media: bool = False) -> None:
    """Refuse what is not a conversation; with `media` its content may have images, audio and files.

    Raises:
        ValueError: `messages` is not a list of objects with a role and content (text, null, or a list of
            text parts), or `tools` is not a list of objects; names the place and what is wrong with it.
    """
    if not isinstance(messages, list | tuple) or not messages:
        raise ValueError(f"messages must be a list of at least one message, got {messages!r:.80}")
    for place, message in enumerate(messages):
        name = f"messages[{place}]"
        if not isinstance(message, Mapping):
            raise ValueError(f"{name} must be an object, got {message!r:.80}")
        role, calls = message.get("role"), message.get("tool_calls")
        if not isinstance(role, str) or not role:
            raise ValueError(f"{name}.role must be a non-empty text, got {role!r:.80}")
        _check_content(f"{name}.content", message.get("content"), media)
        if calls is not None and not _all_objects(calls):
            raise ValueError(f"{name}.tool_calls must be a list of objects, got {calls!r:.80}")
    if tools is not None and not _all_objects(tools):
        raise ValueError(f"tools must be a list of objects, got {tools!r:.80}")


def _all_objects(items: Any) -> bool:
    return isinstance(items, list | tuple) and all(isinstance(item, Mapping) for item in items)


def _check_content(name: str, content: Any, media: bool) -> None:
    if content is None or isinstance(content, str):
        return
    if not isinstance(content, list | tuple):
        raise ValueError(f"{name} must be text, null or a list of text parts, got {content!r:.80}")
    for place, part in enumerate(content):
        if is_media(part):
            if not media:
                kind = part.get("media")
                raise ValueError(f"{name}[{place}] must be text: a text model cannot be given an {kind}")
        elif not isinstance(part, str) and not (
            isinstance(part, Mapping) and isinstance(part.get("text"), str)
        ):
            raise ValueError(f"{name}[{place}] must be a text part, got {part!r:.80}")


def normalise(
    messages: Sequence[Message], *, structured_calls: bool, tool_role: str = "tool"
) -> list[Message]:
    """Copy messages with text content, for a template that takes tool calls or one that does not.

    Args:
        messages: as sent; left untouched.
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
        return without_marks(content)
    return "".join(
        media_mark(part) if is_media(part) else without_marks(part if isinstance(part, str) else part["text"])
        for part in content
    )


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
    """Messages and tools as a template is given them.

    A template that knows no `tools` gets the definitions at the end of the system message, one JSON object a
    line; a system message is made if there is none.
    """
    if not tools or re.search(r"\btools\b", template):
        return messages, tools
    listing = "\n".join(["Tools:", *(json.dumps(tool, ensure_ascii=False) for tool in tools)])
    if messages[0]["role"] != "system":
        return [{"role": "system", "content": listing}, *messages], None
    system = messages[0]
    return [{**system, "content": f"{system['content']}\n\n{listing}".lstrip()}, *messages[1:]], None
