"""Hypothetical changes to a log: requests are rewritten before they are tokenised.

    move:REGEX:end      move matching text to the end of its message or prompt
    move:REGEX:last     move matching text to the end of the last user message
    drop:REGEX          remove matching text
    sort:tools          tool definitions in the order of their names
    sort:json           JSON in tools and texts with sorted keys and plain separators
    sort:REGEX          matches within a text in alphabetical order, in the places where they were
    squeeze:space       runs of spaces become one, none is left at line ends, and no more than one empty line
    keep:history        earlier turns of a session stay as they were first sent
    capacity:N, policy:NAME, block-size:N, ttl:none, share:namespaces    other settings, same log

Which end? Text that changes from session to session does the least harm at the end of its message, where the
whole session can keep it; text that changes from request to request belongs in the last user message, since
everything from there on is new in any case.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from radixcache.cache.eviction import make_policy
from radixcache.doctor.edits.history import HistoryKeeper
from radixcache.doctor.edits.rewriters import Drop, Move, SortMatches, sort_json, sort_tools, squeeze_space
from radixcache.doctor.settings import DoctorSettings
from radixcache.logs.record import LogRequest
from radixcache.sizes import parse_capacity, parse_count

__all__ = ["WhatIf", "parse_edits", "rewritten"]

_DESTINATIONS = ("end", "last")
_HELP = (
    "move:REGEX:end, move:REGEX:last, drop:REGEX, sort:tools, sort:json, sort:REGEX, squeeze:space, "
    "keep:history, capacity:N, policy:NAME, block-size:N, ttl:none or share:namespaces"
)

Rewrite = Callable[[LogRequest], LogRequest]


@dataclass(frozen=True, slots=True)
class WhatIf:
    """One edit, parsed.

    Attributes:
        text: as it was written.
        make: gives a fresh rewriter of requests, which may remember what it saw; None for a setting.
        settings: settings that it changes.
    """

    text: str
    make: Callable[[], Rewrite] | None
    settings: dict[str, Any]


def parse_edits(texts: Sequence[str]) -> list[WhatIf]:
    """Parse edits; ValueError names the invalid one, and the valid forms."""
    return [_parse(text) for text in texts]


def rewritten(
    log: Iterable[LogRequest],
    edits: Sequence[WhatIf],
    settings: DoctorSettings,
    counts: Counter[str] | None = None,
) -> tuple[Iterator[LogRequest], DoctorSettings]:
    """A log and its settings after all edits, in their order.

    `counts`, if given, gets the number of requests that each edit changed, by its text.
    """
    rewriters = [(edit.text, edit.make()) for edit in edits if edit.make is not None]
    changed: dict[str, Any] = {}
    for edit in edits:
        changed |= edit.settings
    return _apply(log, rewriters, counts), replace(settings, **changed)


def _apply(
    log: Iterable[LogRequest], rewriters: Sequence[tuple[str, Rewrite]], counts: Counter[str] | None
) -> Iterator[LogRequest]:
    for entry in log:
        changed = entry
        for text, rewriter in rewriters:
            before, changed = changed, rewriter(changed)
            if counts is not None and changed is not before and changed.raw != before.raw:
                counts[text] += 1
        yield changed


def _parse(text: str) -> WhatIf:
    verb, colon, rest = text.partition(":")
    known: dict[str, Callable[[str], Rewrite]] = {
        "move": _parse_move,
        "drop": lambda rest: Drop(_pattern(text, rest)),
        "sort": lambda rest: _parse_sort(text, rest),
    }
    if colon and verb in known and rest:
        rewriter = known[verb](rest)
        return WhatIf(text, lambda: rewriter, {})
    if text == "squeeze:space":
        return WhatIf(text, lambda: squeeze_space, {})
    if text == "keep:history":
        return WhatIf(text, HistoryKeeper, {})
    return WhatIf(text, None, _parse_setting(text, verb, rest))


def _parse_setting(text: str, verb: str, rest: str) -> dict[str, Any]:
    if verb == "capacity" and rest:
        return {"capacity": parse_capacity(rest)}
    if verb == "policy" and rest:
        make_policy(rest)
        return {"policy": rest}
    if verb == "block-size" and rest:
        return {"block_size": parse_count("block-size", rest)}
    if text == "ttl:none":
        return {"ttl": None}
    if text == "share:namespaces":
        return {"namespace_by": None}
    raise ValueError(f"what-if {text!r} is not a valid edit; use {_HELP}")


def _parse_move(rest: str) -> Rewrite:
    regex, _, destination = rest.rpartition(":")
    if destination not in _DESTINATIONS or not regex:
        raise ValueError(f"what-if 'move:{rest}' is not a valid edit; use move:REGEX:end or move:REGEX:last")
    return Move(_pattern(f"move:{rest}", regex), to_last=destination == "last")


def _parse_sort(text: str, rest: str) -> Rewrite:
    if rest == "tools":
        return sort_tools
    return sort_json if rest == "json" else SortMatches(_pattern(text, rest))


def _pattern(text: str, regex: str) -> re.Pattern[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # for what a later Python may read differently
            pattern = re.compile(regex)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"what-if {text!r}: {regex!r} is not a valid regular expression: {error}") from None
    if pattern.fullmatch(""):
        raise ValueError(f"what-if {text!r}: {regex!r} matches the empty string")
    return pattern
