"""What became of a prompt that parted from an earlier one, as far as the two texts tell."""

from __future__ import annotations

from dataclasses import dataclass, field

from radixcache.doctor.diagnosis import Example, Side, Where
from radixcache.doctor.log.layout import Laid
from radixcache.doctor.texts.compare import Span

__all__ = ["Verdict", "example_of", "side_of", "where_of"]

_CONTEXT = 120
_DIFFERS = 400


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
