"""Progress on standard error: bars on a terminal, nothing elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from radixcache.report.text import visible

__all__ = ["ProgressBars"]


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
