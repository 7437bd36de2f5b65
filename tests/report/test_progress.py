"""Progress where standard error is no terminal, and above bars where it is."""

from __future__ import annotations

import io

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
    assert "0/7" in text
    assert "warning: something" in text
