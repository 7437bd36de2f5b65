"""Curves drawn with braille characters, for a terminal or a pipe; no colour is needed to read them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

__all__ = ["Mark", "Series", "draw_chart", "is_plain", "short_count"]

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a braille character, by row and column of its dots."""
_BLANK = 0x2800
_LABEL = 6
_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25)
_MOST_TICKS = 5


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart.

    Attributes:
        points: `(x, y)` in order of x, at least one, joined by straight lines.
        style: a rich style.
        dotted: leave gaps, so that it differs from others without colour.
    """

    points: Sequence[tuple[float, float]]
    style: str = ""
    dotted: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A character put on a point."""

    x: float
    y: float
    sign: str = "o"
    style: str = "bold yellow"


def is_plain(console: Console) -> bool:
    """Whether a console takes no more than ASCII, for all one knows."""
    return not console.encoding.lower().startswith("utf")


def draw_chart(
    series: Sequence[Series],
    *,
    x_range: tuple[float, float],
    y_top: float,
    marks: Sequence[Mark] = (),
    width: int = 78,
    height: int = 15,
    ascii_only: bool = False,
) -> Text:
    """Draw lines over a logarithmic x axis, with shares as y.

    Args:
        series: lines; where two meet in a character the later one gives its style.
        x_range: where the axis begins and ends, both above 0; what lies before it is left out.
        y_top: the highest y there is; 1 is 100 %. The axis ends at a round number above it.
        marks: points to mark, on top of the lines.
        width: characters a line at most, labels included.
        height: lines of the drawing without the axis.
        ascii_only: for a terminal without braille: `*` for a line, `.` for a dotted one.
    """
    step = next((t for t in _TICKS if y_top / t <= _MOST_TICKS), _TICKS[-1])
    ticks = max(1, math.ceil(y_top / step - 1e-9))
    columns = max(16, width - _LABEL)
    canvas = _Canvas(columns, height, x_range, ticks * step, ascii_only)
    for line in series:
        canvas.draw(line)
    for mark in marks:
        canvas.mark(mark)
    labels = {round(height * (1 - tick / ticks)): f"{tick * step:.0%}" for tick in range(1, ticks + 1)}
    vertical, crossing, corner, horizontal, tick = "|++-+" if ascii_only else "│┤└─┴"
    text = Text(no_wrap=True, end="")
    for row in range(height):
        label = labels.get(row, "")
        text.append(f"{label:>{_LABEL - 2}} {crossing if label else vertical}", "dim")
        text.append_text(canvas.row(row))
        text.append("\n")
    axis, names = _x_axis(x_range, columns, horizontal, tick)
    text.append(f"{'0%':>{_LABEL - 2}} {corner}{axis}\n{' ' * _LABEL}{names}\n", "dim")
    return text


class _Canvas:
    """Characters with dots in them, and the style of each."""

    def __init__(
        self, columns: int, rows: int, x_range: tuple[float, float], y_top: float, ascii_only: bool
    ) -> None:
        self._columns, self._rows = 2 * columns, 4 * rows
        self._left = math.log(x_range[0])
        self._span = max(1e-9, math.log(x_range[1]) - self._left)
        self._top = y_top
        self._ascii = ascii_only
        self._cells: dict[tuple[int, int], tuple[str, str]] = {}

    def draw(self, line: Series) -> None:
        """Set the dots of a line; a dotted one keeps one in four."""
        previous: int | None = None
        drawn = 0
        for x, y in self._dots(line.points):
            low, high = y, y
            if previous is not None and previous != y:  # a steep piece: go on from beside the last dot
                low, high = (previous + 1, y) if previous < y else (y, previous - 1)
            for dot in range(low, high + 1):
                if not line.dotted or drawn % 4 == 0:
                    self._set(x, dot, line)
                drawn += 1
            previous = y

    def mark(self, mark: Mark) -> None:
        """Put a sign in the character where the point lies."""
        if math.log(mark.x) >= self._left - 1e-9:
            self._cells[self._row(mark.y) // 4, self._column(mark.x) // 2] = (mark.sign, mark.style)

    def row(self, row: int) -> Text:
        """One line of characters, without blanks at its end."""
        text = Text()
        last = max((column for r, column in self._cells if r == row), default=-1)
        for column in range(last + 1):
            text.append(*self._cells.get((row, column), (" ", "")))
        return text

    def _dots(self, points: Sequence[tuple[float, float]]) -> Iterator[tuple[int, int]]:
        """The row of dots of every column of them, from the first point on the canvas to the last."""
        heights: dict[int, float] = {}
        for (x, y), (next_x, next_y) in zip(points, [*points[1:], points[-1]], strict=True):
            if math.log(next_x) < self._left - 1e-9:
                continue
            begin, end = self._column(x), self._column(next_x)
            for column in range(begin, end + 1):
                share = (column - begin) / (end - begin) if end > begin else 1.0
                heights[column] = y + (next_y - y) * share
        for column, height in heights.items():
            yield column, self._row(height)

    def _column(self, x: float) -> int:
        share = (math.log(x) - self._left) / self._span
        return min(self._columns - 1, max(0, round(share * (self._columns - 1))))

    def _row(self, y: float) -> int:
        return min(self._rows - 1, max(0, round((1 - y / self._top) * self._rows)))

    def _set(self, x: int, y: int, line: Series) -> None:
        key = y // 4, x // 2
        if self._ascii:
            self._cells[key] = ("." if line.dotted else "*", line.style)
            return
        before = ord(self._cells.get(key, (chr(_BLANK), ""))[0])
        self._cells[key] = (chr(before | _DOTS[y % 4][x % 2]), line.style)


def _x_axis(x_range: tuple[float, float], columns: int, horizontal: str, tick: str) -> tuple[str, str]:
    """The axis with ticks at powers of ten, and their labels."""
    low, high = math.log10(x_range[0]), math.log10(x_range[1])
    axis, labels = [horizontal] * columns, [" "] * columns
    free = 0
    for power in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1):
        column = round((power - low) / max(1e-9, high - low) * (columns - 1))
        label = short_count(10**power)
        start = min(max(0, column - len(label) // 2), columns - len(label))
        axis[column] = tick
        if start >= free:
            labels[start : start + len(label)] = label
            free = start + len(label) + 1
    return "".join(axis), "".join(labels).rstrip()


def short_count(value: int) -> str:
    """`1`, `10`, `1k`, `10M`: a round number in few characters, others with separators."""
    for unit, suffix in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= unit and value % (unit // 10) == 0:
            return f"{value / unit:g}{suffix}"
    return f"{value:,}"
