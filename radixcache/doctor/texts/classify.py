"""Two requests that part, judged: what kind of difference it is, if anything can be done about it.

Most prompts part because they ask something else, and then there is no verdict. The signs of the rest:

- the request before in the same session is not what this one begins with: an earlier turn was rewritten, or
  the chat template renders it differently;
- the same pieces come in another order, or the same JSON in another layout;
- what follows the difference is the same again: a date, an id or a name that appears too early.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from radixcache.doctor.diagnosis.schema import Example, Side, Where
from radixcache.doctor.edits.history import new_text_at
from radixcache.doctor.texts.compare import Span, Spans, compare, word_start
from radixcache.doctor.texts.judge import Verdict, example_of, judge_history, where_of
from radixcache.doctor.texts.layout import Laid, Part
from radixcache.doctor.texts.segments import varying_segments
from radixcache.strings import common_start

__all__ = ["classify"]

_SAME_AGAIN = 48
_SAME_AGAIN_AT_MOST = 400
_EARLY = 0.1  # of a part has to follow what varies, or it stands late enough
_SAME_AGAIN_BEYOND = 200
_SHORT = 400
_SHARE = 0.5
_SHARE_IN_MESSAGES = 0.8
_PIECE = 12
_MOST_STARTS = 64
_SPLITS = (re.compile(r"\n\s*\n"), re.compile(r"\n"))


def classify(left: Laid, right: Laid, token: int, *, same_session: bool) -> Verdict | None:
    """Judge a request against an earlier one; None if they differ as different requests do.

    Args:
        left: the earlier request.
        right: the one that missed.
        token: where they part, for the example.
        same_session: whether both are of one session, `left` just before `right`.
    """
    at = common_start(left.text, right.text)
    if at >= min(len(left.text), len(right.text)):
        return None
    parts = left.part_at(at), right.part_at(at)
    if "tools" in (parts[0].name, parts[1].name):
        return _judge_tools(left, right, at, token)
    if same_session:
        found = _judge_session(left, right, at, token)
        if found is not None:
            return found
    if parts[0].name != parts[1].name:
        return None
    return (
        _judge_json(left, right, at, token)
        or _judge_order(left, right, at, parts, token)
        or _judge_varying(left, right, at, parts, token, same_session=same_session)
    )


# ---------------------------------------------------------------- tools


def _judge_tools(left: Laid, right: Laid, at: int, token: int) -> Verdict | None:
    before, now = left.entry.tools or [], right.entry.tools or []
    spans = compare(left.text, right.text, left.part_at(at).stop, right.part_at(at).stop, at)
    span = spans.spans[0] if spans.spans else Span(at, at, at, at)
    where, example = where_of(right, at), example_of(left, right, span, token)
    plain = [[json.dumps(tool, sort_keys=True) for tool in tools] for tools in (before, now)]
    if plain[0] == plain[1]:
        return Verdict("json_layout", "key order", where, example, edit="sort:json")
    if sorted(plain[0]) == sorted(plain[1]):
        return Verdict("reordered", "tools", where, _tool_order(left, right, token), edit="sort:tools")
    if [_name(tool) for tool in before] == [_name(tool) for tool in now] and spans.share >= _SHARE:
        texts = [[text for tool in tools for text in _texts(tool)] for tools in (before, now)]
        return Verdict("volatile_text", "", where, example, _varying_strings(*texts))
    return Verdict("tools_changed", "", where, example)


def _name(tool: dict[str, Any]) -> str:
    function = tool.get("function")
    return str(function.get("name") if isinstance(function, dict) else tool.get("name"))


def _tool_order(left: Laid, right: Laid, token: int) -> Example:
    """The names of the tools side by side, from the first difference on."""
    names = [[_name(tool) for tool in laid.entry.tools or []] for laid in (left, right)]
    same = next((i for i, (a, b) in enumerate(zip(*names, strict=False)) if a != b), 0)
    before = "".join(f"{name}, " for name in names[0][:same])
    return Example(
        *(
            Side(laid.entry.source, laid.entry.line, token, before, ", ".join(order[same:]), "")
            for laid, order in zip((left, right), names, strict=True)
        )
    )


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in inner for text in _texts(item)]


def _varying_strings(before: list[str], now: list[str]) -> list[list[str]]:
    """Where the texts within two lists of tools differ, each with its surroundings."""
    found: list[list[str]] = []
    for left, right in zip(before, now, strict=False):
        if left != right:
            at = common_start(left, right)
            spans = compare(left, right, len(left), len(right), word_start(right, at))
            found += varying_segments(left, right, (0, len(left)), (0, len(right)), spans.spans)
    return found


# ---------------------------------------------------------------- sessions


def _judge_session(left: Laid, right: Laid, at: int, token: int) -> Verdict | None:
    before, now = left.entry.messages, right.entry.messages
    if before is None or now is None:
        return _judge_text_session(left, right, at, token)
    spans = compare(left.text, right.text, len(left.text), len(right.text), at)
    span = spans.spans[0] if spans.spans else Span(at, at, at, at)
    if now[: len(before)] == before:
        ends = [part.stop for part in left.parts if part.message == len(before) - 1]
        if at >= (ends[-1] if ends else len(left.text)):
            return None
        return Verdict("template_not_stable", "", where_of(right, at), example_of(left, right, span, token))
    judged = judge_history(before, now)
    if judged is None:
        return None
    how, first = judged
    part = right.part_at(at)
    if how == "edited":
        # One turn with the same text again around a date, a counter or JSON is told apart below.
        inner = compare(left.text, right.text, left.part_at(at).stop, part.stop, at)
        if inner.share >= _SHARE and inner.same >= _SAME_AGAIN:
            return None
    line = where_of(right, at).line if part.message == first else None
    where = Where("message", first, str(now[first]["role"]), line)
    return Verdict("history_rewritten", how, where, example_of(left, right, span, token), edit="keep:history")


def _judge_text_session(left: Laid, right: Laid, at: int, token: int) -> Verdict | None:
    """Prompts that are one text: this one holds the end of the one before, but not its beginning."""
    before, now = left.text, right.text
    if left.entry.prompt is None or right.entry.prompt is None or now.startswith(before):
        return None
    place = new_text_at(before, now)
    if place is None or place <= at:
        return None
    spans = compare(before, now, len(before), place, at)
    if not spans.spans:
        return None
    gone, put = (sum(lengths) for lengths in zip(*(_sides(span) for span in spans.spans), strict=True))
    if max(gone, put) <= _SHORT and 4 * put > gone:
        return None  # short enough to be text that varies
    how = "truncated" if len(before) - at > place - at else "edited"
    example = example_of(left, right, spans.spans[0], token)
    return Verdict("history_rewritten", how, where_of(right, at), example, edit="keep:history")


def _sides(span: Span) -> tuple[int, int]:
    return span.left_stop - span.left_start, span.right_stop - span.right_start


# ---------------------------------------------------------------- the same, written differently


def _judge_json(left: Laid, right: Laid, at: int, token: int) -> Verdict | None:
    """The same JSON value in another layout, or the same text with other white space."""
    decoder = json.JSONDecoder()
    floor = right.part_at(at).start
    start = at
    for _ in range(_MOST_STARTS):
        start = max(right.text.rfind("{", floor, start), right.text.rfind("[", floor, start))
        if start < 0:
            break
        try:
            before, left_stop = decoder.raw_decode(left.text, start)
            now, right_stop = decoder.raw_decode(right.text, start)
        except (ValueError, RecursionError):
            continue
        if before == now and isinstance(now, dict | list) and min(left_stop, right_stop) > at:
            example = example_of(left, right, Span(at, left_stop, at, right_stop), token)
            return Verdict("json_layout", "key order", where_of(right, at), example, edit="sort:json")
    gaps = [_gap(laid.text, at, laid.part_at(at).stop) for laid in (left, right)]
    if gaps[0] == gaps[1]:
        return None
    rest = [
        text.text[at + gap : at + gap + 4 * _SAME_AGAIN]
        for text, gap in zip((left, right), gaps, strict=True)
    ]
    squeezed = ["".join(text.split())[:_SAME_AGAIN] for text in rest]
    if squeezed[0] != squeezed[1] or len(squeezed[0]) < _SAME_AGAIN:
        return None
    example = example_of(left, right, Span(at, at + gaps[0], at, at + gaps[1]), token)
    return Verdict("json_layout", "white space", where_of(right, at), example, edit="squeeze:space")


def _gap(text: str, at: int, stop: int) -> int:
    end = at
    while end < stop and text[end].isspace():
        end += 1
    return end - at


def _judge_order(left: Laid, right: Laid, at: int, parts: tuple[Part, Part], token: int) -> Verdict | None:
    """The pieces that differ are both there, in both texts, in another order."""
    for split in _SPLITS:
        texts = [laid.text[part.start : part.stop] for laid, part in zip((left, right), parts, strict=True)]
        before, now = ([piece.strip() for piece in split.split(text)] for text in texts)
        first = next((i for i, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), None)
        if first is None:
            continue
        rest = Counter(before[first:]), Counter(now[first:])
        shared = [piece for piece in now[first:] if len(piece) >= _PIECE and rest[0][piece]]
        moved = [piece for piece in shared if rest[0][piece] == rest[1][piece]]
        if before[first] in rest[1] and now[first] in rest[0] and len(set(moved)) >= 2:
            span = Span(at, at + len(before[first]), at, at + len(now[first]))
            example = example_of(left, right, _within(span, parts), token)
            how = "all pieces" if now[-1] in moved else "pieces"
            return Verdict("reordered", how, where_of(right, at), example, [list(dict.fromkeys(moved))])
    return None


def _within(span: Span, parts: tuple[Part, Part]) -> Span:
    return span._replace(
        left_stop=min(span.left_stop, parts[0].stop), right_stop=min(span.right_stop, parts[1].stop)
    )


# ---------------------------------------------------------------- text that varies


def _judge_varying(
    left: Laid, right: Laid, at: int, parts: tuple[Part, Part], token: int, *, same_session: bool
) -> Verdict | None:
    start = word_start(right.text, at, max(part.start for part in parts))
    spans = compare(left.text, right.text, parts[0].stop, parts[1].stop, start)
    if not spans.spans or not _same_again(spans, left, right, parts, same_session=same_session):
        return None
    bounds = [(part.start, part.stop) for part in parts]
    segments = varying_segments(left.text, right.text, bounds[0], bounds[1], spans.spans)
    example = example_of(left, right, spans.spans[0], token)
    return Verdict("volatile_text", "", where_of(right, spans.spans[0].right_start), example, segments)


def _same_again(
    spans: Spans, left: Laid, right: Laid, parts: tuple[Part, Part], *, same_session: bool
) -> bool:
    name = parts[1].name
    if name == "message" and not same_session:
        return spans.share >= _SHARE_IN_MESSAGES and spans.same >= _SAME_AGAIN_BEYOND
    if name == "template":
        return spans.whole and spans.share >= _SHARE
    enough = max(_SAME_AGAIN, min(_SAME_AGAIN_AT_MOST, _EARLY * (parts[1].stop - parts[1].start)))
    if spans.share >= _SHARE and spans.same >= enough:
        return True
    if sum(span.length for span in spans.spans) > _SHORT or name != "system":
        return False
    return common_start(left.text, right.text, parts[0].stop, parts[1].stop) >= _SAME_AGAIN_BEYOND
