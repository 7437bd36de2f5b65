"""Which part of a conversation each stretch of its text comes from, and where its messages end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from radixcache.prompts.messages import Message
from radixcache.prompts.template import Rendered
from radixcache.strings import common_end, common_start

__all__ = ["Part", "message_ends", "parts_of"]

_SYSTEM_ROLES = ("system", "developer")


class Part(NamedTuple):
    """A stretch of the text.

    Attributes:
        start, stop: characters.
        name: `system`, `tools`, `message`, `template` or `prompt`.
        message: index into the messages; None outside them.
        role: of that message.
    """

    start: int
    stop: int
    name: str
    message: int | None = None
    role: str | None = None


def parts_of(rendered: Rendered, messages: Sequence[Message], bare: Rendered | None = None) -> list[Part]:
    """The parts of a conversation: the messages' text is looked for in the rendered text, in order.

    What belongs to no message is the template's.

    Args:
        rendered: the conversation.
        messages: its messages, as they were sent.
        bare: the same rendered without its tools, where it has any: what only `rendered` has is the tools.
            Messages are looked for in `bare`, so that none is found in a tool's description.
    """
    if bare is None:
        return _message_parts(rendered.text, rendered.messages, messages)
    return _with_tools(_message_parts(bare.text, bare.messages, messages), rendered.text, bare.text)


def message_ends(parts: Sequence[Part]) -> list[int]:
    """Characters at which messages end: first that of the tools and system messages which open the text.

    A message ends with its text or its tool calls; what the template writes after it is not counted, and an
    empty message has no end.
    """
    ends: dict[int | None, int] = {}
    opening = True
    for part in parts:
        if part.name == "template":
            continue
        opening = opening and part.name in ("system", "tools")
        if opening:
            ends[None] = part.stop
        elif part.message is not None:
            ends[part.message] = part.stop
    return list(ends.values())


def _message_parts(text: str, messages: Sequence[Message], sent: Sequence[Message]) -> list[Part]:
    """The parts of a conversation without tools: messages as rendered, and the template between them."""
    shift = len(messages) - len(sent)
    parts: list[Part] = []
    at = 0
    calls: Part | None = None  # the message whose tool calls the template writes next

    def between(stop: int) -> None:
        if stop > at:
            parts.append(Part(at, stop, "template") if calls is None else calls._replace(start=at, stop=stop))

    for place, message in enumerate(messages):
        index = place - shift
        role = str((sent[index] if index >= 0 else message)["role"])
        name = "system" if role in _SYSTEM_ROLES else "message"
        start, stop = _find(text, str(message.get("content") or ""), at)
        part = Part(start, stop, name, index if index >= 0 else None, role)
        if stop > start:
            between(start)
            parts.append(part)
            at, calls = stop, None
        if message.get("tool_calls"):
            calls = part
    calls = None
    between(len(text))
    return parts or [Part(0, len(text), "template")]


def _find(text: str, content: str, at: int) -> tuple[int, int]:
    """Where a message's text is, as sent or without the white space around it; else nothing there."""
    for wanted in (content, content.strip()):
        place = text.find(wanted, at) if wanted else -1
        if place >= 0:
            return place, place + len(wanted)
    return at, at


def _with_tools(parts: list[Part], text: str, bare: str) -> list[Part]:
    """The parts of `bare` as they are in `text`, and one for the tools, which only `text` has."""
    start = common_start(text, bare)
    same = common_end(text, bare, min(len(text), len(bare)) - start)
    stop, shift = len(text) - same, len(text) - len(bare)
    before = [part._replace(stop=min(part.stop, start)) for part in parts if part.start < start]
    tools = [Part(start, stop, "tools")] if stop > start else []
    after = [
        part._replace(start=max(part.start + shift, stop), stop=part.stop + shift)
        for part in parts
        if part.stop + shift > stop
    ]
    return [*before, *tools, *after]
