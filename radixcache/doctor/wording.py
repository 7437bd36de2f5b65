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
    """Where, as one says it: `line 1 of the system message`."""
    line = "" if where.line is None else f"line {where.line} of "
    if where.part == "message":
        return f"{line}a {where.role} message" if where.role else f"{line}a message"
    names = {"system": "the system message", "tools": "the tools", "template": "the template's own text"}
    return line + names.get(where.part or "", "the prompt")


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
        return f"{_what(cluster.variants).capitalize()} that changes stands early, in {place}"
    if verdict.kind == "reordered":
        return (
            "The tools come in changing order"
            if how == "tools"
            else f"The same pieces come in changing order, in {place}"
        )
    if verdict.kind == "json_layout":
        layout = "white space" if how == "white space" else "JSON layout"
        return f"The same content in changing {layout}, in {place}"
    titles = {
        "truncated": "Earlier turns are cut off at the front",
        "summarised": "Earlier turns are replaced by a summary",
        "dropped": "Text of earlier turns, reasoning perhaps, is left out later",
        "edited": "Earlier turns are changed later",
    }
    known = {
        "history_rewritten": titles.get(how, ""),
        "tools_changed": "The set of tools changes",
        "template_not_stable": "The chat template renders earlier turns otherwise once there are later ones",
        "retokenised": "Answers come back in other tokens than they were generated in",
    }
    return known[verdict.kind]


_ADVICE = {
    "volatile_text": "Put what changes behind what does not: everything after it has to be computed anew "
    "each time.",
    "reordered": "Send the same pieces in the same order every time; sort them by something that does not "
    "change.",
    "json_layout": "Write JSON the same way every time: sorted keys, the same separators, and no white space "
    "that comes and goes.",
    "history_rewritten": "Only ever append to a conversation. If it must be shortened, shorten it rarely and "
    "by much, so that the new beginning is used many times.",
    "tools_changed": "Send one list of tools to all requests, or put those that come and go last.",
    "template_not_stable": "Use a chat template that renders a turn the same way whatever follows it, or "
    "keep the token ids of earlier turns and append to them.",
    "retokenised": "Keep the generated token ids and append to them, as ChatSession does, instead of "
    "tokenising the text again.",
}
_TEMPLATE_TEXT = (
    "The chat template writes this text. Pin it (a fixed date, say), or take a template without it."
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
    ends = {"end": "to the end of the message it stands in", "last": "to the end of the last user message"}
    if verb == "move":
        return f"Move what matches {regex} {ends[destination]}."
    if verb == "drop":
        return f"Leave out what matches {rest}."
    fixed = {
        "sort:tools": "Sort the tools by name.",
        "sort:json": "Write JSON with sorted keys and plain separators.",
        "squeeze:space": "Write one space for several, and none at line ends.",
        "keep:history": "Keep earlier turns exactly as they were first sent.",
        "share:namespaces": "Let all requests share one namespace.",
        "ttl:none": "Keep prefixes without a time limit.",
    }
    if what_if in fixed:
        return fixed[what_if]
    if verb == "sort":
        return f"Sort the pieces that match {rest}."
    settings = {
        "capacity": "Give the cache {} blocks.",
        "policy": "Evict by the policy {}.",
        "block-size": "Use blocks of {} tokens.",
    }
    return settings[verb].format(rest)
