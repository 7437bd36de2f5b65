"""Two texts that part: where, what differs, and whether they come together again."""

from __future__ import annotations

from typing import NamedTuple

from radixcache.strings import common_end, common_start

__all__ = ["Span", "Spans", "compare", "word_start"]

_GRAM = 16
_LEAST = 24
_WINDOW = 4000
_MOST_SPANS = 12
_LETTERS = 6
_WORD = 48


class Span(NamedTuple):
    """What differs: `left[left_start:left_stop]` against `right[right_start:right_stop]`."""

    left_start: int
    left_stop: int
    right_start: int
    right_stop: int

    @property
    def length(self) -> int:
        """Characters of the longer side."""
        return max(self.left_stop - self.left_start, self.right_stop - self.right_start)


class Spans(NamedTuple):
    """How two texts differ from the first difference on.

    Attributes:
        spans: what differs, in order.
        same: characters between and behind these that are equal.
        whole: whether everything was compared; else there is more that differs.
    """

    spans: list[Span]
    same: int
    whole: bool

    @property
    def share(self) -> float:
        """Of what follows the first difference, how much is the same again, 0 to 1."""
        varying = sum(span.length for span in self.spans)
        return self.same / (self.same + varying) if self.same + varying else 0.0


def word_start(text: str, at: int, floor: int = 0) -> int:
    """The beginning of the word that `at` stands in, at most so far back that it could be one."""
    start = at
    while (
        start > max(floor, at - _WORD)
        and not text[start - 1].isspace()
        and text[start - 1] not in "\"'`<>()[]{}|="
    ):
        start -= 1
    return start


def compare(left: str, right: str, left_stop: int, right_stop: int, start: int) -> Spans:
    """Walk through two texts that are equal up to `start`, as far as `left_stop` and `right_stop`.

    A difference ends where 24 characters are the same again, at least; the nearest such place within 4,000
    characters is taken. After 12 differences, or where no such place is found, it stops.
    """
    spans: list[Span] = []
    same = 0
    a = b = start
    while len(spans) < _MOST_SPANS:
        if a >= left_stop and b >= right_stop:
            return Spans(spans, same, True)
        place = _resync(left[a : min(left_stop, a + _WINDOW)], right[b : min(right_stop, b + _WINDOW)])
        if place is None:
            spans.append(Span(a, left_stop, b, right_stop))
            return Spans(spans, same, True)
        spans.append(Span(a, a + place[0], b, b + place[1]))
        a, b = a + place[0], b + place[1]
        equal = min(common_start(left, right, a, b), left_stop - a, right_stop - b)
        same += equal
        a, b = a + equal, b + equal
    return Spans(spans, same, False)


def _resync(left: str, right: str) -> tuple[int, int] | None:
    """The nearest pair of places from which the two are equal for a while."""
    if left == right:
        return 0, 0
    places: dict[str, int] = {}
    for i in range(len(left) - _GRAM, -1, -1):
        places[left[i : i + _GRAM]] = i
    best: tuple[int, int] | None = None
    for j in range(len(right) - _GRAM + 1):
        if best is not None and j >= sum(best):
            break
        i = places.get(right[j : j + _GRAM], -1)
        if i < 0 or (best is not None and i + j >= sum(best)):
            continue
        equal = common_start(left, right, i, j)
        if equal < min(_LEAST, len(left) - i, len(right) - j):
            continue
        if sum(map(str.isalnum, left[i : i + equal][:_LEAST])) >= _LETTERS:
            best = i, j
    if best is None and max(len(left), len(right)) < _WINDOW:  # both to their ends
        tail = common_end(left, right)
        return (len(left) - tail, len(right) - tail) if tail else None
    return best
