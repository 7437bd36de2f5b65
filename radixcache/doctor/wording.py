"""Findings in plain words."""

from __future__ import annotations

import re
from collections.abc import Sequence

from radixcache.doctor.diagnosis.schema import Where
from radixcache.doctor.texts.clusters import Cluster

__all__ = ["advice_of", "describe_edit", "place_of", "title_of"]

_NAMES = "Mon|Tue|Wed|Thu|Fri|Sat|Sun|Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_DATE = re.compile(rf"\d{{4}}-\d\d|\d{{1,2}}:\d\d|\d{{1,2}}[./]\d{{1,2}}[./]\d{{2,4}}|\b(?:{_NAMES})[a-z]*\b")
_HEX = r"\b(?=[0-9a-fA-F-]*\d)(?=[0-9a-fA-F-]*[a-fA-F])[0-9a-fA-F][0-9a-fA-F-]{6,}\b"
_ID = re.compile(_HEX + r"|\b\w*\d\w*[A-Za-z]\w*\d\w*\b")
_NUMBER = re.compile(r"\d")


def place_of(where: Where) -> str:
    """The place in words: `line 1 of the system message`."""
    line = "" if where.line is None else f"line {where.line} of "
    if where.part == "message":
        return f"{line}a {where.role} message" if where.role else f"{line}a message"
    names = {"system": "the system message", "tools": "the tools", "template": "the template's own text"}
    return line + names.get(where.part or "", "the prompt")


_CHANGING = {
    "a date or time": "A changing date or time",
    "an id": "A changing id",
    "a number": "A changing number",
    "text": "Changing text",
}


def _what(variants: Sequence[Sequence[str]]) -> str:
    texts = " ".join(variants[0]) if variants else ""
    if _DATE.search(texts):
        return "a date or time"
    if _ID.search(texts):
        return "an id"
    return "a number" if _NUMBER.search(texts) else "text"


def title_of(cluster: Cluster) -> str:
    """One line that names the finding."""
    verdict = cluster.first
    place = place_of(verdict.where)
    how = verdict.how
    if verdict.kind == "volatile_text":
        return f"{_CHANGING[_what(cluster.variants)]} appears early ({place})"
    if verdict.kind == "reordered":
        return (
            "Tool definitions change order between requests"
            if how == "tools"
            else f"The same pieces change order between requests ({place})"
        )
    if verdict.kind == "json_layout":
        layout = "white space" if how == "white space" else "JSON formatting"
        return f"The same content with changing {layout} ({place})"
    titles = {
        "truncated": "Earlier turns are truncated",
        "summarised": "Earlier turns are replaced by a summary",
        "dropped": "Text of earlier turns, such as reasoning, is dropped later",
        "edited": "Earlier turns are edited later",
    }
    known = {
        "history_rewritten": titles.get(how, ""),
        "tools_changed": "The set of tools changes between requests",
        "template_not_stable": "The chat template re-renders earlier turns differently",
        "retokenised": "Answers are re-tokenized differently when sent back",
    }
    return known[verdict.kind]


_ADVICE = {
    "volatile_text": "Move changing text after stable text; everything after it is recomputed on every "
    "request.",
    "reordered": "Send the same pieces in the same order in every request; sort them by a stable key.",
    "json_layout": "Serialize JSON the same way in every request: sorted keys, fixed separators and white "
    "space.",
    "history_rewritten": "Only append to a conversation. If it must be shortened, truncate rarely, in large "
    "steps, so that the new beginning is reused many times.",
    "tools_changed": "Send the same list of tools with every request, or put the tools that change last.",
    "template_not_stable": "Use a chat template that renders a turn the same way whatever follows it, or "
    "keep the token ids of earlier turns and append to them.",
    "retokenised": "Keep the generated token ids and append to them, as ChatSession does, instead of "
    "tokenizing the text again.",
}
_TEMPLATE_TEXT = (
    "The chat template writes this text. Pin it (to a fixed date, for example), or use a template without it."
)


def advice_of(cluster: Cluster) -> str:
    """What to do about it."""
    verdict = cluster.first
    if verdict.kind == "volatile_text" and verdict.where.part == "template":
        return _TEMPLATE_TEXT
    return _ADVICE[verdict.kind]


def describe_edit(what_if: str) -> str:
    """An edit in plain language."""
    verb, _, rest = what_if.partition(":")
    regex, _, destination = rest.rpartition(":")
    ends = {"end": "to the end of its message", "last": "to the end of the last user message"}
    if verb == "move":
        return f"Move text matching {regex} {ends[destination]}."
    if verb == "drop":
        return f"Remove text matching {rest}."
    fixed = {
        "sort:tools": "Sort the tools by name.",
        "sort:json": "Write JSON with sorted keys and default separators.",
        "squeeze:space": "Collapse runs of spaces, and strip trailing spaces.",
        "keep:history": "Keep earlier turns exactly as they were first sent.",
        "share:namespaces": "Let all requests share one namespace.",
        "ttl:none": "Never expire prefixes.",
    }
    if what_if in fixed:
        return fixed[what_if]
    if verb == "sort":
        return f"Sort the pieces matching {rest}."
    settings = {
        "capacity": "Give the cache {} blocks.",
        "policy": "Use the eviction policy {}.",
        "block-size": "Use blocks of {} tokens.",
    }
    return settings[verb].format(rest)
