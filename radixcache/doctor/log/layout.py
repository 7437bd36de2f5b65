"""The text of a request and which part of the request each stretch of it comes from."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from radixcache.doctor.texts.compare import common_end, common_start
from radixcache.logs.record import LogRequest
from radixcache.prompts import Message
from radixcache.prompts.encode import EncodeError, Rendered
from radixcache.prompts.pieces import PieceEncoder

__all__ = ["Laid", "Part", "lay_out", "message_ends", "parts_of"]


_SYSTEM_ROLES = ("system", "developer")


class Part(NamedTuple):
    """A stretch of the text.

    Attributes:
        start, stop: characters.
        name: `system`, `tools`, `message`, `template` or `prompt`.
        message: index into the logged messages; None outside them.
        role: of that message.
    """

    start: int
    stop: int
    name: str
    message: int | None = None
    role: str | None = None


class Laid(NamedTuple):
    """A request as text.

    Attributes:
        entry: as logged.
        text: as it is tokenised.
        parts: in order; together they are the whole text.
    """

    entry: LogRequest
    text: str
    parts: list[Part]

    def part_at(self, at: int) -> Part:
        """The part in which a character stands; of an end, the last part."""
        return next((part for part in self.parts if part.start <= at < part.stop), self.parts[-1])

    def line_at(self, at: int) -> int:
        """Its line in the text of its part, from 1."""
        return 1 + self.text.count("\n", self.part_at(at).start, at)


def lay_out(entry: LogRequest, encoder: PieceEncoder) -> Laid | None:
    """Render a request and find its parts; None for one that the template refuses."""
    if entry.messages is None:
        text = entry.prompt or ""
        return Laid(entry, text, [Part(0, len(text), "prompt")])
    try:
        rendered = encoder.render(entry)
        return Laid(entry, rendered.text, parts_of(entry, rendered, encoder))
    except EncodeError:
        return None


def parts_of(entry: LogRequest, rendered: Rendered, encoder: PieceEncoder) -> list[Part]:
    """The parts of a conversation: the messages' text is looked for in the rendered text, in order.

    What belongs to no message is the template's. Where tools stand is found out by rendering the request
    without them; messages are looked for there, so that none is found in a tool's description.

    Raises:
        EncodeError: the template refuses the request without its tools.
    """
    logged = entry.messages or []
    if not entry.tools:
        return _message_parts(rendered.text, rendered.messages, logged)
    bare, messages = encoder.render(replace(entry, tools=None))
    return _with_tools(_message_parts(bare, messages, logged), rendered.text, bare)


def message_ends(parts: list[Part]) -> list[int]:
    """Characters at which messages end: first that of the tools and system messages which open the text.

    A message ends with its text or its tool calls; what the template writes behind it is not counted, and an
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


def _message_parts(text: str, messages: list[Message], logged: list[Message]) -> list[Part]:
    """The parts of a conversation without tools: messages as rendered, and the template between them."""
    shift = len(messages) - len(logged)
    parts: list[Part] = []
    at = 0
    calls: Part | None = None  # the message whose tool calls the template writes next

    def between(stop: int) -> None:
        if stop > at:
            parts.append(Part(at, stop, "template") if calls is None else calls._replace(start=at, stop=stop))

    for place, message in enumerate(messages):
        index = place - shift
        role = str((logged[index] if index >= 0 else message)["role"])
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
    """Where a message's text stands, as logged or without the white space around it; else nothing there."""
    for wanted in (content, content.strip()):
        place = text.find(wanted, at) if wanted else -1
        if place >= 0:
            return place, place + len(wanted)
    return at, at


def _with_tools(parts: list[Part], text: str, bare: str) -> list[Part]:
    """The parts of `bare` as they stand in `text`, and one for the tools, which only `text` has."""
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
