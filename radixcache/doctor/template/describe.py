"""A difference between two renderings put into words and numbers."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from radixcache.doctor.template.conversations import Conversation
from radixcache.doctor.template.pairs import Pair, shared_length
from radixcache.doctor.template.render import Renderer
from radixcache.doctor.template.results import TemplateChange

__all__ = ["describe"]

_SHOWN = 80
_CONTEXT = 40
_COMPARED = 2000
_WORD = 24
_WORD_END = re.compile(r"[\s>]")
_RESUMES = 8  # characters in common after which two texts count as going on alike


def describe(renderer: Renderer, conversation: Conversation, pair: Pair) -> TemplateChange:
    before, lost, replaced, after = _difference(pair)
    message = _owner(conversation, pair)
    lines = renderer.template.text.splitlines()
    line = _line(renderer, conversation, pair)
    encode = renderer.template.encode
    lost_tokens = None
    if encode is not None:
        earlier, later = encode(pair.earlier), encode(pair.later)
        lost_tokens = len(earlier) - shared_length(earlier, later)
    return TemplateChange(
        feature=conversation.feature,
        kind=pair.kind,
        messages=tuple(conversation.messages),
        with_tools=conversation.tools is not None,
        request=pair.request,
        message=message,
        role=str(conversation.messages[message]["role"]) if message is not None and message >= 0 else None,
        kept_characters=pair.position,
        lost_characters=len(pair.earlier) - pair.position,
        lost_tokens=lost_tokens,
        before=before[-_CONTEXT:],
        lost=lost[:_SHOWN],
        replaced=replaced[:_SHOWN],
        after=after[:_CONTEXT],
        template_line=line,
        template_text=lines[line - 1].strip()[:_SHOWN] if line is not None and line <= len(lines) else None,
    )


def _difference(pair: Pair) -> tuple[str, str, str, str]:
    """What stands before a difference, what is lost, what is there instead, and how the later text goes on.

    The difference is shown from the beginning of the tag or word in which it stands.
    """
    at = pair.position
    head = _tail_of_word(pair.earlier[:at])
    before = pair.earlier[: at - len(head)]
    earlier, later = pair.earlier[at:], pair.later[at:]
    if pair.kind == "generation_prompt":
        return before, head + earlier, head + later, ""
    lost, replaced = _until_alike(earlier, later)
    after = later[len(replaced) :]
    if lost.endswith(head) and not replaced:  # the same text is gone if it is cut out earlier by this much
        return before, head + lost.removesuffix(head), "", head + after
    if replaced.endswith(head) and not lost:
        return before, "", head + replaced.removesuffix(head), head + after
    return before, head + lost, head + replaced, after


def _until_alike(earlier: str, later: str) -> tuple[str, str]:
    """The beginnings of two texts up to where they go on alike; all of them if they do not."""
    matcher = SequenceMatcher(None, earlier[:_COMPARED], later[:_COMPARED], autojunk=False)
    for block in matcher.get_matching_blocks():
        if block.size >= _RESUMES or (block.size and block.a + block.size == len(earlier)):
            return earlier[: block.a], later[: block.b]
    return earlier, later


def _tail_of_word(text: str) -> str:
    """The beginning of the tag or word that a text breaks off in; empty if that is too long to show."""
    tail = _WORD_END.split(text[-_WORD:])[-1]
    return tail if len(tail) < _WORD else ""


def _owner(conversation: Conversation, pair: Pair) -> int | None:
    """The message in which the earlier text differs: that of the first known word after the difference."""
    if pair.kind == "generation_prompt":
        return None
    found = [
        (place, index)
        for word, index in conversation.markers.items()
        if index < pair.request and (place := pair.earlier.find(word, pair.position)) >= 0
    ]
    return min(found)[1] if found else pair.request - 1


def _line(renderer: Renderer, conversation: Conversation, pair: Pair) -> int | None:
    """The line that wrote what is no longer there, or no longer in that place."""
    messages = conversation.messages[: pair.request]
    lines = renderer.trace(messages, conversation.tools, generation_prompt=pair.prompted, now=pair.now)
    # the clock may have ticked between the two renderings
    return lines.at(pair.position) if lines is not None and lines.text == pair.earlier else None
