"""What varies, with what stands around it on its line; and a regular expression for all its variants."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from radixcache.doctor.texts.compare import Span, word_start
from radixcache.strings import common_end, common_start

__all__ = ["LINE_END", "LINE_START", "alike", "bare", "pattern_of", "varying_segments"]

LINE_START, LINE_END = "\x02", "\x03"

_SIDE = 80
_CUT = 40
_KNOWN = 5
_TELLING = 6
_LONG = 60
_LONGEST = 200
_SENTENCE = re.compile(r"[.!?][ \t]+")


def varying_segments(
    left: str,
    right: str,
    left_bounds: tuple[int, int],
    right_bounds: tuple[int, int],
    spans: Sequence[Span],
) -> list[list[str]]:
    """For each place that varies its variants, both sides, with the line (or sentence) around them.

    Places whose lines overlap are one. Bounds are those of the part that the texts stand in. A variant that
    begins a line has `LINE_START` in front, one that ends a line `LINE_END` behind it. Whole lines that only
    one side has are a variant alone.
    """
    alone = [_lines_alone(left, s.left_start, s.left_stop) for s in spans if s.right_start == s.right_stop]
    alone += [_lines_alone(right, s.right_start, s.right_stop) for s in spans if s.left_start == s.left_stop]
    if spans and len(alone) == len(spans) and None not in alone:
        return [[text] for text in alone if text is not None]
    lefts = _merged([_around(left, s.left_start, s.left_stop, left_bounds) for s in spans])
    rights = _merged([_around(right, s.right_start, s.right_stop, right_bounds) for s in spans])
    if len(lefts) == len(rights):
        pairs = zip(lefts, rights, strict=True)
    else:  # the one has line breaks where the other has none: take it as one place
        pairs = zip([(lefts[0][0], lefts[-1][1])], [(rights[0][0], rights[-1][1])], strict=True)
    return [
        [_marked(left, a, b, left_bounds), _marked(right, c, d, right_bounds)] for (a, b), (c, d) in pairs
    ]


def _lines_alone(text: str, start: int, stop: int) -> str | None:
    """Whole lines, marked; None if it is less or more than that."""
    lines = text[start:stop]
    whole = (not start or text[start - 1] == "\n") and lines.endswith("\n") and bool(lines.strip())
    return f"{LINE_START}{lines.strip()}{LINE_END}" if whole else None


def _marked(text: str, start: int, stop: int, bounds: tuple[int, int]) -> str:
    begins = start == bounds[0] or text[start - 1] == "\n"
    ends = stop == bounds[1] or text[stop] == "\n"
    return f"{LINE_START if begins else ''}{text[start:stop]}{LINE_END if ends else ''}"


def bare(variant: str) -> str:
    """A variant without its marks."""
    return variant.removeprefix(LINE_START).removesuffix(LINE_END)


def _around(text: str, start: int, stop: int, bounds: tuple[int, int]) -> tuple[int, int]:
    """The line around a stretch, or the sentence if the line is long, or some words."""
    line = max(bounds[0], text.rfind("\n", bounds[0], start) + 1)
    end = text.find("\n", stop, bounds[1])
    end = bounds[1] if end < 0 else end
    if start - line > _SIDE:
        ends = [match.end() for match in _SENTENCE.finditer(text, line, start)]
        line = ends[-1] if ends and start - ends[-1] <= _SIDE else word_start(text, start - _CUT, line)
    if end - stop > _SIDE:
        match = _SENTENCE.search(text, stop, stop + _SIDE)
        end = match.start() + 1 if match else text.rfind(" ", stop, stop + _CUT)
        end = max(end, stop)
    return line, end


def _merged(places: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for start, stop in places:
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(stop, found[-1][1]))
        else:
            found.append((start, stop))
    return found


def alike(a: str, b: str) -> bool:
    """Whether two segments are variants of one: they begin or end alike, or have the same make-up."""
    a, b = bare(a), bare(b)
    start = common_start(a, b)
    end = common_end(a, b, min(len(a), len(b)) - start)
    shorter = min(len(a), len(b))
    return start + end >= min(_KNOWN, max(1, shorter // 3)) or _mask(a) == _mask(b)


def _mask(text: str) -> str:
    """The make-up of a text: runs of letters and digits by kind."""
    if re.fullmatch(r"[0-9a-fA-F-]{8,}", text):
        return "hex"
    return re.sub(r"[a-z]+", "a", re.sub(r"[A-Z]+", "A", re.sub(r"\d+", "0", text)))


def pattern_of(variants: Sequence[str]) -> str | None:
    """A regular expression that matches all variants: what they begin and end with, and what varies.

    Where too little is the same in all of them to tell them from other text, it is tied to line ends. None
    if what varies is too long, or too much of a line, to be a date, an id or a name: it is other text.
    """
    opens = all(text.startswith(LINE_START) for text in variants)
    closes = all(text.endswith(LINE_END) for text in variants)
    variants = [bare(text) for text in variants]
    if len(set(variants)) == 1:
        return _plain(re.escape(variants[0])) if len(variants[0]) <= _LONGEST else None
    first = min(variants)
    last = max(variants)
    start = common_start(first, last)
    ends = [text[::-1] for text in variants]
    end = min(common_start(min(ends), max(ends)), min(map(len, variants)) - start)
    start = word_start(first, start)
    at = len(first) - end
    while start < at < len(first) and first[at - 1 : at + 1].isalnum():
        at += 1  # not within a word
    end = len(first) - at
    middles = [text[start : len(text) - end] for text in variants]
    longest = max(map(len, middles))
    if longest > _LONGEST or (longest > _LONG and sum(map(str.isalnum, first[:start])) < 3):
        return None
    before, after = re.escape(first[:start]), re.escape(first[len(first) - end :] if end else "")
    lazy = "?" if after else ""
    telling = sum(map(str.isalnum, first[:start] + (first[len(first) - end :] if end else ""))) >= _TELLING
    front, back = ("(?m:^)" if opens else "", "(?m:$)" if closes else "") if not telling else ("", "")
    return f"{front}{_plain(before)}{_class_of(middles)}{lazy}{_plain(after)}{back}"


def _plain(escaped: str) -> str:
    for sign in " -#":
        escaped = escaped.replace(f"\\{sign}", sign)
    return _spelled(escaped)


def _spelled(escaped: str) -> str:
    """Escaped white space by name, so that the expression stays the same where it is shown and copied."""
    for sign, name in (("\n", "n"), ("\t", "t"), ("\r", "r"), ("\v", "v"), ("\f", "f")):
        escaped = escaped.replace(f"\\{sign}", f"\\{name}")
    return escaped


def _class_of(middles: Sequence[str]) -> str:
    characters = set("".join(middles))
    classes = ""
    if any(c.isdigit() for c in characters):
        classes += r"\d"
    if any(c.isalpha() for c in characters):
        classes += "A-Za-z" if all(c.isascii() for c in characters if c.isalpha()) else r"\w"
    rest = sorted(c for c in characters if not c.isalnum())
    classes += "".join(c if c in " :,;/+=@_%'\"" else _spelled(re.escape(c)) for c in rest)
    least, most = min(map(len, middles)), max(map(len, middles))
    if not classes:
        return ""
    return f"[{classes}]{{{1 if least else 0},{most + most // 2 + 4}}}"
