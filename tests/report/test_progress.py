"""Progress where standard error is no terminal, and above bars where it is."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from radixcache.report.terminal import progress
from radixcache.report.terminal.progress import ProgressBars, ProgressLines, show_progress


def test_lines_come_at_the_start_of_a_phase_and_every_half_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress, "monotonic", lambda: now)
    out = io.StringIO()
    with show_progress(Console(file=out, width=20)) as shown:
        assert isinstance(shown, ProgressLines)
        for done in range(5):
            shown.update("cache off\x1b", done, 1000)
            now += 12.0
        shown.update("reading", 1, None)
        now += 40.0
        shown.update("reading", 1234, None)
    assert out.getvalue().splitlines() == [
        "cache off\\x1b: 0 of 1,000",
        "cache off\\x1b: 3 of 1,000",
        "reading: 1,234",
    ]


def test_a_terminal_has_bars_from_the_start_and_lines_stay_above_them() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True)
    with show_progress(console) as shown:
        assert isinstance(shown, ProgressBars)
        shown.update("cache off", 0, 7)
        console.print("warning: something")
        shown.update("cache off", 1, 7)
    text = out.getvalue()
    assert "starting" in text
    assert "0/7" in text
    assert "warning: something" in text


def screen(text: str) -> list[str]:
    """What a terminal shows in the end, as far as bars use its codes."""
    lines, row, column = [""], 0, 0
    for code, character in re.findall(r"\x1b\[([?\d;]*[A-Za-z])|([^\x1b])", text):
        if code.endswith("A"):
            row -= int(code[:-1] or 1)
        elif code == "2K":
            lines[row] = ""
        elif character == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif character == "\r":
            column = 0
        elif character:
            lines[row] = lines[row][:column].ljust(column) + character + lines[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines if line.strip()]


def test_bars_leave_nothing_but_the_lines_between_them() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True)
    with show_progress(console) as shown:
        for phase in (f"phase {number}" for number in range(80)):
            shown.update(phase, 0, 10)
            shown.update(phase, 5, 10)
            if phase == "phase 40":
                console.print("a notice")
            shown.update(phase, 10, 10)
    assert screen(out.getvalue()) == ["a notice"]
    assert out.getvalue().rstrip("\r\n").endswith("\x1b[?25h") or "\x1b[?25h" in out.getvalue()


def test_a_long_name_leaves_room_for_bar_and_time() -> None:
    for width in (60, 80):
        out = io.StringIO()
        with show_progress(Console(file=out, width=width, force_terminal=True)) as shown:
            shown.update("measuring move:It is Tuesday, the 24th of November, and so on:last", 100, 100_000)
        line = next(line for line in out.getvalue().split("\r") if "100/100000" in line.replace(",", ""))
        assert "0:00:00" in line
        assert line.count("━") + line.count("╸") + line.count("╺") >= 10


def test_lines_come_also_from_a_phase_that_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress, "monotonic", lambda: now)
    out = io.StringIO()
    shown = ProgressLines(Console(file=out, width=80), from_start=False)
    shown.update("reading", 0, 9)
    now += 29.0
    shown.remind()
    assert out.getvalue() == ""
    now += 2.0
    shown.remind()
    shown.remind()
    now += 31.0
    shown.remind()
    shown.update("reading", 9, 9)
    now += 100.0
    shown.remind()
    assert out.getvalue() == "reading: 0 of 9\n" * 2
