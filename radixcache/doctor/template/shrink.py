"""The smallest conversation that still shows a change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from radixcache.doctor.template.conversations import Conversation
from radixcache.doctor.template.pairs import differing_pairs
from radixcache.doctor.template.render import RefusedError, Renderer
from radixcache.doctor.template.results import Kind

__all__ = ["shrink"]


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
