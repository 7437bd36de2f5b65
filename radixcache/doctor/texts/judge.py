"""What became of a prompt that diverged from an earlier one, as far as the two tell.

Their texts differ, the earlier turns of a session were rewritten, or the same text came in other tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from radixcache.doctor.diagnosis.schema import Example, Side, Where
from radixcache.doctor.texts.compare import Span
from radixcache.doctor.texts.layout import Laid
from radixcache.logs.record import LogRequest
from radixcache.strings import common_start
from radixcache.tokens import TOKEN_BYTES

__all__ = ["Verdict", "example_of", "judge_history", "judge_tokens", "side_of", "where_of"]

Messages = list[dict[str, Any]]
_SYSTEM = ("system", "developer")
_CONTEXT = 120
_DIFFERS = 400
_WINDOW = 48 * TOKEN_BYTES
_SHOWN = 4 * TOKEN_BYTES
_GOES_ON = 6


@dataclass(frozen=True, slots=True)
class Verdict:
    """One pair of requests, judged.

    Attributes:
        kind: as in `Finding`.
        how: a finer distinction within the kind.
        where: where they part.
        example: the two side by side.
        varying: stretches of text that vary, from both sides, each with what stands around it on its line.
        edit: an edit that undoes it, if it follows from the kind alone.
    """

    kind: str
    how: str
    where: Where
    example: Example
    varying: list[list[str]] = field(default_factory=list)
    edit: str | None = None


def where_of(laid: Laid, at: int) -> Where:
    """The place of a character."""
    part = laid.part_at(at)
    return Where(part.name, part.message, part.role, laid.line_at(at))


def side_of(laid: Laid, start: int, stop: int, token: int) -> Side:
    """A stretch of a request with what stands around it, long ones cut."""
    text = laid.text
    differs = text[start:stop]
    return Side(
        source=laid.entry.source,
        line=laid.entry.line,
        token=token,
        before=text[max(0, start - _CONTEXT) : start],
        differs=differs if len(differs) <= _DIFFERS else differs[: _DIFFERS - 1] + "…",
        after=text[stop : stop + _CONTEXT],
    )


def example_of(left: Laid, right: Laid, span: Span, token: int) -> Example:
    """Two requests side by side, with what differs marked."""
    return Example(
        side_of(left, span.left_start, span.left_stop, token),
        side_of(right, span.right_start, span.right_stop, token),
    )


def judge_history(before: Messages, now: Messages) -> tuple[str, int] | None:
    """How, and from which message on; None if it is no rewriting.

    How is `truncated`, `summarised`, `dropped` (text within turns) or `edited`.

    Args:
        before: messages of one request of a session.
        now: those of the next, which do not begin with `before`.
    """
    first = next((i for i, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), None)
    if first is None or before[first]["role"] in _SYSTEM:
        return None
    old, new = before[first:], now[first:]
    for gone in range(1, len(old)):
        tail = old[gone:]
        for put in range(min(gone, len(new)) + 1):
            if new[put : put + len(tail)] == tail:
                if put == gone == 1:
                    return _edited(old[:1], new[:1]), first
                if put:
                    return ("summarised" if put < gone else "edited"), first
                return "truncated", first
    if len(now) <= len(before) or [m["role"] for m in new[: len(old)]] != [m["role"] for m in old]:
        return None
    return _edited(old, new), first


def _edited(old: Messages, new: Messages) -> str:
    """`dropped` if every turn that changed only lost something."""
    pairs = [(_text(a), _text(b)) for a, b in zip(old, new, strict=False) if a != b]
    return "dropped" if pairs and all(_is_cut(a, b) for a, b in pairs) else "edited"


def _is_cut(old: str, new: str) -> bool:
    """Whether `new` is `old` without one stretch in it, and not just another text."""
    if len(new) >= len(old):
        return False
    start = 0
    while start < len(new) and old[start] == new[start]:
        start += 1
    stop = 0
    while stop < len(new) - start and old[-1 - stop] == new[-1 - stop]:
        stop += 1
    return len(new) - start - stop <= 2  # a space or a line break may have changed, too


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(part if isinstance(part, str) else str(part.get("text", "")) for part in content)
    extra = [str(message[key]) for key in ("reasoning_content", "reasoning", "thinking") if message.get(key)]
    return "".join([*extra, content or ""])


def judge_tokens(
    left: tuple[LogRequest, bytes],
    right: tuple[LogRequest, bytes],
    token: int,
    decode: Callable[[bytes], str],
) -> Verdict | None:
    """Judge two sequences of tokens that part in an answer: whether their text goes on the same.

    Args:
        left: the earlier request, with its prompt and answer packed.
        right: the one that missed, with its prompt.
        token: where they part, in or just before the answer of `left`.
        decode: the text of packed tokens.
    """
    at = token * TOKEN_BYTES
    texts = [decode(packed[at : at + _WINDOW]) for _, packed in (left, right)]
    firsts = [decode(packed[at : at + TOKEN_BYTES]) for _, packed in (left, right)]
    if not all(firsts) or common_start(texts[0], texts[1]) < max(map(len, firsts)) + _GOES_ON:
        return None
    before = decode(right[1][max(0, at - _WINDOW) : at])[-_CONTEXT:]
    sides = []
    for (entry, packed), text in zip((left, right), texts, strict=True):
        pieces = [
            decode(packed[start : start + TOKEN_BYTES])
            for start in range(at, min(at + _SHOWN, len(packed)), TOKEN_BYTES)
        ]
        after = text[len("".join(pieces)) :][:_CONTEXT]
        sides.append(Side(entry.source, entry.line, token, before, "|".join(pieces), after))
    where = Where("prompt") if right[0].messages is None else Where("message", None, "assistant")
    return Verdict("retokenised", "", where, Example(sides[0], sides[1]))
