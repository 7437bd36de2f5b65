"""Made-up conversations that between them use what chat templates treat differently.

Every text has a unique word, by which the place of a difference is found again in what was rendered.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

__all__ = ["Conversation", "conversations"]

Message = dict[str, Any]

_TOOLS: list[Message] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"Looks up the {what} of a place ({name}).",
            "parameters": {
                "type": "object",
                "properties": {"place": {"type": "string", "description": "Name of the place."}},
                "required": ["place"],
            },
        },
    }
    for name, what in (("weather_lookup", "weather"), ("timezone_lookup", "time zone"))
]


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation to render turn by turn.

    Attributes:
        feature: what it has that simpler ones have not.
        messages: all of it; it ends with a message that asks for an answer.
        tools: definitions, or None.
        needs: words of which the template must use one to know of the feature at all; empty for none.
        markers: word -> the message it stands in, -1 for the tools.
        variants: the same in other forms, for a template that refuses this one.
    """

    feature: str
    messages: Sequence[Message]
    tools: Sequence[Message] | None = None
    needs: tuple[str, ...] = ()
    markers: Mapping[str, int] = field(default_factory=dict)
    variants: tuple[Conversation, ...] = ()

    def requests(self) -> Iterator[int]:
        """Lengths, in messages, at which an answer is asked for."""
        for index, message in enumerate(self.messages):
            following = self.messages[index + 1]["role"] if index + 1 < len(self.messages) else None
            if message["role"] == "user" or (message["role"] == "tool" and following != "tool"):
                yield index + 1


def conversations() -> list[Conversation]:
    """From the simplest feature to the most particular."""
    plain = [_user(0), _assistant(1), _user(2), _assistant(3), _user(4)]
    with_system = [_system(0), _user(1), _assistant(2), _user(3), _assistant(4), _user(5)]
    empty = [_user(0), {"role": "assistant", "content": ""}, _user(2), _assistant(3), _user(4, content="")]
    empty += [_assistant(5), _user(6)]
    spaced = [
        {**message, "content": f"\n  {message['content']} \n\n"} for message in (_user(0), _assistant(1))
    ]
    spaced += [_user(2, content="  Line bravo2.\n"), _assistant(3), _user(4)]
    calls = [_system(0), _user(1), _calling(2), _tool(3), _assistant(4), _user(5), _calling(6), _tool(7)]
    calls += [_assistant(8), _user(9)]
    parallel = [_user(0), _calling(1, calls=2), _tool(2), _tool(3, call=1), _assistant(4), _user(5)]
    thinking = [_user(0), _assistant(1, thought=True), _user(2), _assistant(3, thought=True), _user(4)]
    inline = [_user(0), _inline(1), _user(2), _inline(3), _user(4)]
    agent = [_system(0), _user(1), _calling(2, thought=True), _tool(3), _calling(4, thought=True), _tool(5)]
    agent += [_assistant(6, thought=True), _user(7), _assistant(8, thought=True), _user(9)]
    knows_tools = ("tools", "tool_calls")
    knows_thoughts = ("reasoning_content", "reasoning", "thinking", "think>")
    return [
        _make("turns", plain),
        _make("system prompt", with_system),
        _make("empty turns", empty),
        _make("white space around turns", spaced),
        _make("tools", with_system, tools=_TOOLS, needs=("tools",)),
        _make("tools without system prompt", plain, tools=_TOOLS, needs=("tools",)),
        _make("tool calls", calls, tools=_TOOLS, needs=knows_tools),
        _make("tool calls with null content", _null(calls), tools=_TOOLS, needs=knows_tools),
        _make("parallel tool calls", parallel, tools=_TOOLS, needs=knows_tools),
        _make("reasoning", thinking, needs=knows_thoughts),
        _make("reasoning within the content", inline, needs=("think>",)),
        _make("reasoning with tool calls", agent, tools=_TOOLS, needs=knows_thoughts[:3]),
    ]


def _make(
    feature: str,
    messages: Sequence[Message],
    *,
    tools: Sequence[Message] | None = None,
    needs: tuple[str, ...] = (),
) -> Conversation:
    markers = {}
    for index, message in enumerate(messages):
        for word in ("sierra", "bravo", "alpha", "tango", "romeo", "kilo"):
            if f"{word}{index}" in json.dumps(message):
                markers[f"{word}{index}"] = index
    if tools is not None:
        markers |= {"weather_lookup)": -1, "timezone_lookup)": -1}
    made = Conversation(feature, messages, tools, needs, markers)
    variants = [replace(made, messages=[_with_parts(message) for message in messages])]
    if any("tool_calls" in message for message in messages):
        variants.append(replace(made, messages=[_with_text_arguments(message) for message in messages]))
    return replace(made, variants=tuple(variants))


def _system(index: int) -> Message:
    return {"role": "system", "content": f"You help travellers and answer briefly. Keep to sierra{index}."}


def _user(index: int, content: str | None = None) -> Message:
    text = f"Question bravo{index}: what is there to see in the old town?" if content is None else content
    return {"role": "user", "content": text}


def _assistant(index: int, *, thought: bool = False) -> Message:
    message = {"role": "assistant", "content": f"Answer alpha{index}: the cathedral and the market hall."}
    return {**message, **_thoughts(index)} if thought else message


def _thoughts(index: int) -> Message:
    """Reasoning, under every name that templates know it by."""
    text = f"Thinking of romeo{index}: the traveller has an afternoon."
    return {"reasoning_content": text, "thinking": text, "reasoning": text}


def _inline(index: int) -> Message:
    thought = _thoughts(index)["reasoning_content"]
    return {"role": "assistant", "content": f"<think>\n{thought}\n</think>\n\n{_assistant(index)['content']}"}


def _calling(index: int, *, calls: int = 1, thought: bool = False) -> Message:
    made = [
        {
            "id": f"call{index}{number}".ljust(9, "0"),
            "type": "function",
            "function": {
                "name": _TOOLS[number]["function"]["name"],
                "arguments": {"place": f"kilo{index}" if number == 0 else "Porto"},
            },
        }
        for number in range(calls)
    ]
    message = {"role": "assistant", "content": "", "tool_calls": made}
    return {**message, **_thoughts(index)} if thought else message


def _tool(index: int, *, call: int = 0) -> Message:
    """The result of the call before; of its second call where there are two results in a row."""
    return {
        "role": "tool",
        "name": _TOOLS[call]["function"]["name"],
        "tool_call_id": f"call{index - 1 - call}{call}".ljust(9, "0"),
        "content": f'{{"answer": "tango{index}"}}',
    }


def _null(messages: Sequence[Message]) -> list[Message]:
    return [{**m, "content": None} if "tool_calls" in m else m for m in messages]


def _with_parts(message: Message) -> Message:
    """Content as a list of parts, which templates of models that see want."""
    content = message["content"]
    return message if content is None else {**message, "content": [{"type": "text", "text": content}]}


def _with_text_arguments(message: Message) -> Message:
    """Arguments of calls as JSON text, as APIs write them."""
    if "tool_calls" not in message:
        return message
    calls = []
    for call in message["tool_calls"]:
        function = call["function"]
        calls.append({**call, "function": {**function, "arguments": json.dumps(function["arguments"])}})
    return {**message, "tool_calls": calls}
