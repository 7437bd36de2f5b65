"""Curves drawn with characters."""

from __future__ import annotations

import pytest

from radixcache.report.terminal.chart import Mark, Series, draw_chart, short_count

RISING = Series([(1, 0.0), (1000, 0.9)])


def lines(*series: Series, **options: object) -> list[str]:
    settings = {"x_range": (1, 1000), "y_top": 0.9, "width": 60, "height": 12, **options}
    return draw_chart(series, **settings).plain.splitlines()  # type: ignore[arg-type]


def dots(text: str) -> int:
    return sum((ord(c) - 0x2800).bit_count() for c in text if 0x2800 <= ord(c) < 0x2900)


@pytest.mark.parametrize("width", [30, 60, 79, 100])
def test_no_line_is_wider_than_asked_for(width: int) -> None:
    assert max(map(len, lines(RISING, width=width))) <= width


def test_a_straight_line_on_the_logarithmic_axis_rises_evenly() -> None:
    drawn = lines(RISING)[:12]
    ends = [len(line) for line in drawn if dots(line)]
    assert ends == sorted(ends, reverse=True)
    assert all(dots(line) for line in drawn[2:]), "a line without a gap"
    assert dots(drawn[0]) == 0, "the axis ends at 100 %, the line at 90 %"


def test_the_axes_say_where_one_is() -> None:
    drawn = lines(RISING)
    assert [line[:5].strip() for line in drawn if "┤" in line] == ["100%", "80%", "60%", "40%", "20%"]
    assert drawn[12].startswith("  0% └")
    assert drawn[13].split() == ["1", "10", "100", "1k"]


def test_a_dotted_line_has_fewer_dots() -> None:
    assert 0 < dots("".join(lines(Series(RISING.points, dotted=True)))) < dots("".join(lines(RISING))) / 2


def test_a_mark_lies_on_its_point() -> None:
    drawn = lines(RISING, marks=[Mark(1000, 0.9)])
    (row,) = (i for i, line in enumerate(drawn) if line.endswith("o"))
    assert len(drawn[row]) == 60
    assert row == 1


def test_marks_and_lines_left_of_the_axis_are_left_out() -> None:
    drawn = lines(Series([(1, 0.5), (5, 0.5)]), x_range=(10, 1000), marks=[Mark(2, 0.5)])
    assert dots("".join(drawn)) == 0
    assert "o" not in "".join(drawn)


def test_plain_characters_where_there_is_no_braille() -> None:
    text = "\n".join(lines(RISING, Series([(1, 0.5), (1000, 0.5)], dotted=True), ascii_only=True))
    assert text.isascii()
    assert "*" in text
    assert "." in text


@pytest.mark.parametrize("points", [[(1, 0.0)], [(7, 0.3)], [(3, 0.2), (3, 0.4)]])
def test_a_line_of_one_place(points: list[tuple[float, float]]) -> None:
    assert dots("".join(lines(Series(points)))) >= 1


def test_an_axis_of_no_length() -> None:
    assert lines(Series([(5, 0.5)]), x_range=(5, 5))


def test_round_numbers_are_short() -> None:
    assert [short_count(v) for v in (1, 100, 1000, 1500, 10**6, 10**9, 1234)] == [
        "1",
        "100",
        "1k",
        "1.5k",
        "1M",
        "1G",
        "1,234",
    ]
