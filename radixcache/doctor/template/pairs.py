"""A conversation rendered turn by turn: where a later rendering does not continue an earlier one.

And the smallest conversation that still shows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from radixcache.doctor.template.conversations import Conversation
from radixcache.doctor.template.render import RefusedError, Renderer
from radixcache.doctor.template.results import Kind

__all__ = ["Pair", "differing_pairs", "shared_length", "shrink"]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two renderings, of which the earlier is not the beginning of the later.

    Attributes:
        kind: what differs.
        request: how many messages the earlier has.
        prompted: whether the earlier ends with the generation prompt; the later does.
        earlier, later: the texts.
        position: characters that they have in common.
        now: the time that the earlier was given; None for the real one.
    """

    kind: Kind
    request: int
    prompted: bool
    earlier: str
    later: str
    position: int
    now: datetime | None = None


def differing_pairs(renderer: Renderer, conversation: Conversation) -> tuple[list[Pair], list[str]]:
    """All pairs that differ, and the text of every request."""
    messages, tools = conversation.messages, conversation.tools
    points = list(conversation.requests())
    requests = [renderer.render(messages[:n], tools, generation_prompt=True) for n in points]
    return list(_pairs(renderer, conversation, points, requests)), requests


def _pairs(
    renderer: Renderer, conversation: Conversation, points: list[int], requests: list[str]
) -> Iterator[Pair]:
    for at in range(len(points) - 1):
        prompt, following = requests[at], requests[at + 1]
        position = shared_length(prompt, following)
        if position < len(prompt):
            bare = _bare(renderer, conversation, points[at])
            asks = bare is not None and prompt.startswith(bare) and position >= len(bare)
            if bare == prompt:  # the template asks for an answer always
                asks = position >= max(_end_of_text(conversation, m, prompt) for m in range(points[at]))
            kind: Kind = "generation_prompt" if asks else "prompt"
            yield Pair(kind, points[at], True, prompt, following, position)
            continue
        closed = _bare(renderer, conversation, points[at] + 1)
        if closed is None or not closed.startswith(prompt):
            continue  # what the model itself wrote is not known
        position = shared_length(closed, following)
        end = _end_of_text(conversation, points[at], closed)
        if position < end:
            yield Pair("answer", points[at] + 1, False, closed, following, position)


def _bare(renderer: Renderer, conversation: Conversation, messages: int) -> str | None:
    """A conversation without generation prompt, or None if the template refuses it."""
    try:
        return renderer.render(conversation.messages[:messages], conversation.tools, generation_prompt=False)
    except RefusedError:
        return None


def _end_of_text(conversation: Conversation, message: int, text: str) -> int:
    """Where the content of a message ends, or its last known word; what follows may be no text of its own."""
    content = conversation.messages[message]["content"]
    if isinstance(content, list):
        content = "".join(part["text"] for part in content)
    words = [word for word, index in conversation.markers.items() if index == message]
    words += [content.strip()] if content and content.strip() else []
    ends = [found + len(word) for word in words if (found := text.rfind(word)) >= 0]
    return max(ends, default=0)


def shared_length(earlier: Sequence[object], later: Sequence[object]) -> int:
    """How many characters, or tokens, two sequences begin with in common."""
    for index, (a, b) in enumerate(zip(earlier, later, strict=False)):
        if a != b:
            return index
    return min(len(earlier), len(later))


def shrink(renderer: Renderer, conversation: Conversation, kind: Kind) -> Conversation:
    """Leave out messages, one or two at a time, and the tools, while a change of this kind remains."""
    small = conversation
    while True:
        for candidate in _smaller(small):
            try:
                pairs, _ = differing_pairs(renderer, candidate)
            except RefusedError:
                continue
            if any(pair.kind == kind for pair in pairs):
                small = candidate
                break
        else:
            return small


def _smaller(conversation: Conversation) -> Iterator[Conversation]:
    messages = conversation.messages
    for width in (2, 1):
        for start in range(len(messages) - width, -1, -1):
            kept = [*messages[:start], *messages[start + width :]]
            if not kept or kept[-1]["role"] not in ("user", "tool") or not _paired(kept):
                continue
            markers = {
                word: index - width * (index >= start)
                for word, index in conversation.markers.items()
                if not start <= index < start + width
            }
            yield replace(conversation, messages=kept, markers=markers)
    if conversation.tools is not None:
        markers = {word: index for word, index in conversation.markers.items() if index >= 0}
        yield replace(conversation, tools=None, markers=markers)


def _paired(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether every tool result follows its call, and turns take turns."""
    before: str | None = None
    for message in messages:
        role = str(message["role"])
        wanted = {"system": (None,), "user": (None, "system", "assistant", "tool"), "tool": ("call", "tool")}
        if before not in wanted.get(role, ("user", "tool")):
            return False
        before = "call" if message.get("tool_calls") else role
    return True
