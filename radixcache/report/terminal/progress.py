"""Progress on standard error: bars on a terminal; elsewhere nothing, or a line now and then."""

from __future__ import annotations

from time import monotonic
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from radixcache.report.text import visible

__all__ = ["ProgressBars", "ProgressLines", "show_progress"]

_LINE_EVERY_S = 30.0


class ProgressBars:
    """One bar a named phase; a context manager that takes the bars down at its end."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> ProgressBars:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def update(self, phase: str, done: int, total: int | None) -> None:
        """Show that `done` of `total` are done in a phase; None if the total is not known yet."""
        if phase not in self._tasks:
            self._tasks[phase] = self._bars.add_task(visible(phase), total=total)
        self._bars.update(self._tasks[phase], completed=done, total=total)


class ProgressLines:
    """A line as a phase begins (is told that 0 are done), and after each half minute of it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._printed: dict[str, float] = {}

    def __enter__(self) -> ProgressLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def update(self, phase: str, done: int, total: int | None) -> None:
        """As `ProgressBars.update`."""
        now = monotonic()
        if done == 0 or now - self._printed.setdefault(phase, now) >= _LINE_EVERY_S:
            self._printed[phase] = now
            of_total = "" if total is None else f" of {total:,}"
            self._console.print(
                f"{visible(phase)}: {done:,}{of_total}", markup=False, highlight=False, soft_wrap=True
            )


def show_progress(console: Console) -> ProgressBars | ProgressLines:
    """Bars if the console is a terminal, else lines."""
    return ProgressBars(console) if console.is_terminal else ProgressLines(console)
