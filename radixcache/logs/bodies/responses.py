"""OpenAI Responses: `input` as text or items, with `instructions`.

`previous_response_id` names an earlier answer whose whole conversation comes first; `Conversations` keeps
those of a log.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from radixcache.logs.bodies.chat import read_messages
from radixcache.logs.bodies.common import read_common
from radixcache.logs.bodies.parts import as_list, as_object, json_text, object_list, system_message, tool_call
from radixcache.logs.fields import describe
from radixcache.logs.record import Body, InvalidRecordError, Message

__all__ = ["Conversations", "claims", "read", "read_items"]

_FIELDS = ("input", "instructions", "tools", "previous_response_id", "conversation", "prompt", "text")
_REMEMBERED = 100_000
_CALLS = (
    "function_call",
    "custom_tool_call",
    "mcp_call",
    "local_shell_call",
    "shell_call",
    "apply_patch_call",
)
_ARGUMENTS = ("arguments", "input", "action", "operation")
_RESULTS = (
    "function_call_output",
    "custom_tool_call_output",
    "local_shell_call_output",
    "shell_call_output",
    "apply_patch_call_output",
)


def claims(body: Mapping[str, Any]) -> bool:
    """Whether a body is of this API: text or items as `input`, and not a model's answer beside it."""
    given = body.get("input")
    if isinstance(given, str):
        return bool(given) and not isinstance(body.get("messages"), list)
    return isinstance(given, list) and all(
        isinstance(item, dict) and ("type" in item or "role" in item) for item in given
    )


def read(body: Mapping[str, Any]) -> Body:
    """Read a body, without what `previous_response_id` stands for.

    Raises:
        InvalidRecordError: naming the field and what is wrong with it.
    """
    instructions = body.get("instructions")
    if instructions is not None and not isinstance(instructions, str):
        raise InvalidRecordError(f"instructions is {describe(instructions)}, not text")
    for name in ("conversation", "prompt"):
        if body.get(name) is not None:
            raise InvalidRecordError(f"{name} stands for text that is not in the log")
    given = body["input"]
    messages = (
        [{"role": "user", "content": given}] if isinstance(given, str) else list(read_items("input", given))
    )
    if not messages:
        raise InvalidRecordError("input is empty")
    common = read_common(body, _FIELDS)
    tools = object_list("tools", body.get("tools"))
    return Body(
        messages=[*system_message(instructions), *messages],
        tools=None if tools is None else [_tool(tool) for tool in tools],
        template_kwargs=common.template_kwargs | _effort(body),
        max_tokens=common.max_tokens,
        model=common.model,
        adapter=common.adapter,
        cache_salt=common.cache_salt,
        notes=common.notes,
    )


def read_items(name: str, items: Any) -> Iterator[Message]:
    """Messages of items, in order; calls and reasoning join the assistant message that they belong to.

    Raises:
        InvalidRecordError: naming the item and what is wrong with it.
    """
    assistant: Message | None = None
    for i, value in enumerate(as_list(name, items)):
        where = f"{name}[{i}]"
        item = as_object(where, value)
        kind = item.get("type") or "message"
        if kind == "message" and item.get("role") != "assistant":
            if assistant is not None:
                yield assistant
            assistant = None
            yield from read_messages(where, [_message(item)])[0]
        elif kind in _RESULTS:
            if assistant is not None:
                yield assistant
            assistant = None
            output = item.get("output")
            content = output if isinstance(output, str | list) else json_text(output)
            yield from read_messages(
                where, [{"role": "tool", "tool_call_id": item.get("call_id"), "content": content}]
            )[0]
        else:
            assistant = _joined(where, str(kind), item, assistant)
    if assistant is not None:
        yield assistant


def _joined(name: str, kind: str, item: Mapping[str, Any], before: Message | None) -> Message:
    message: Message = before if before is not None else {"role": "assistant", "content": []}
    if kind == "message":
        (said,), _ = read_messages(name, [_message(item)])
        content = said["content"]
        message["content"] += (
            [{"type": "text", "text": content}] if isinstance(content, str) else content or []
        )
    elif kind in _CALLS:
        arguments = next((item[field] for field in _ARGUMENTS if item.get(field) is not None), None)
        call = tool_call(item.get("call_id"), item.get("name") or kind, arguments)
        message.setdefault("tool_calls", []).append(call)
    elif kind == "reasoning":
        texts = [
            str(part.get("text") or "")
            for field in ("content", "summary")
            for part in item.get(field) or []
            if isinstance(part, dict)
        ]
        message["reasoning_content"] = message.get("reasoning_content", "") + "".join(texts)
    elif kind.endswith("_call"):
        shown = {key: value for key, value in item.items() if key not in ("id", "status", "type")}
        message.setdefault("tool_calls", []).append(tool_call(item.get("id"), kind, shown))
    else:
        raise InvalidRecordError(f"{name} is of type {kind}, which is not known")
    return message


def _message(item: Mapping[str, Any]) -> Message:
    return {key: value for key, value in item.items() if key not in ("type", "status", "id", "phase")}


def _effort(body: Mapping[str, Any]) -> dict[str, Any]:
    reasoning = body.get("reasoning")
    effort = reasoning.get("effort") if isinstance(reasoning, dict) else None
    return {} if effort is None else {"reasoning_effort": effort}


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    if tool.get("type") != "function" or "function" in tool:
        return tool
    function = {
        key: value for key, value in tool.items() if key not in ("type", "strict") and value is not None
    }
    return {"type": "function", "function": function}


class Conversations:
    """What earlier answers of a log stand for, the last 100,000 of them."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, list[Message]] = OrderedDict()

    def continued(self, body: Mapping[str, Any], read: Body) -> Body:
        """A request with the conversation that its `previous_response_id` names before its own messages.

        Raises:
            InvalidRecordError: the log has no such answer before this line.
        """
        name = body.get("previous_response_id")
        if name is None or read.messages is None:
            return read
        before = self._known.get(name) if isinstance(name, str) else None
        if before is None:
            raise InvalidRecordError(
                f"previous_response_id is {name!r}: no such answer comes before in the log"
            )
        # instructions hold for one request only
        first = 1 if body.get("instructions") is not None else 0
        return replace(read, messages=[*read.messages[:first], *before, *read.messages[first:]])

    def answered(self, read: Body, body: Mapping[str, Any], response: Any) -> None:
        """Remember a conversation with its answer under the answer's id, if the log has both."""
        if not isinstance(response, Mapping) or not isinstance(name := response.get("id"), str):
            return
        if read.messages is None or not isinstance(output := response.get("output"), list):
            return
        try:
            said = list(read_items("output", output))
        except InvalidRecordError:
            return
        own = read.messages[1:] if body.get("instructions") is not None else read.messages
        self._known[name] = [*own, *said]
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
