"""The consoles that reports and messages are printed on."""

from __future__ import annotations

import sys
from typing import NoReturn

from rich.console import Console

from radixcache.report.text import visible

__all__ = ["ReportConsole", "error_console"]

_LONGEST_NOTICE = 1000


class ReportConsole(Console):
    """A console that raises BrokenPipeError when its reader is gone, where rich ends the process."""

    def on_broken_pipe(self) -> NoReturn:
        """Raise what the write raised."""
        raise sys.exception() or BrokenPipeError

    def notify(self, line: str) -> None:
        """Print one line of text as it is, however long, without markup."""
        self.print(visible(line, _LONGEST_NOTICE), markup=False, highlight=False, soft_wrap=True)


def error_console() -> ReportConsole:
    """The console of standard error."""
    return ReportConsole(stderr=True)
