"""Progress on standard error: a bar on a terminal, a line now and then elsewhere.

Bars leave nothing behind. Lines come every half minute, also from a phase that makes no progress.
"""

from __future__ import annotations

from threading import Event, Lock, Thread
from time import monotonic
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.table import Column

from radixcache.report.text import visible

__all__ = ["Progress", "ProgressBars", "ProgressLines", "show_progress"]

_LINE_EVERY_S = 30.0


class Progress(Protocol):
    """A context manager that shows how far the work is."""

    def __enter__(self) -> Progress: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def update(self, phase: str, done: int, total: int | None) -> None:
        """Show that `done` of `total` are done in a phase; None if the total is not known yet."""


class ProgressBars:
    """A bar for the phase that runs, from the start on; all are taken down at the end of it."""

    def __init__(self, console: Console) -> None:
        self._bars = RichProgress(
            TextColumn(
                "{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")
            ),
            BarColumn(bar_width=None, table_column=Column(min_width=10, ratio=1)),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            console=console,
            transient=True,
            expand=console.width < 80,
            disable=not console.is_terminal,
        )
        self._name_width = max(12, console.width // 3)
        self._tasks: dict[str, TaskID] = {}
        self._starting: TaskID | None = self._bars.add_task("starting", total=None)

    def __enter__(self) -> ProgressBars:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def update(self, phase: str, done: int, total: int | None) -> None:
        """As `Progress.update`; a phase that is done makes room for the next."""
        if self._starting is not None:
            self._bars.remove_task(self._starting)
            self._starting = None
        if total is not None and done >= total:
            task = self._tasks.pop(phase, None)
            if task is not None:
                self._bars.remove_task(task)
            return
        if phase not in self._tasks:
            self._tasks[phase] = self._bars.add_task(visible(phase, self._name_width), total=total)
        self._bars.update(self._tasks[phase], completed=done, total=total)


class ProgressLines:
    """A line as a phase begins (is told that 0 are done), and one after each half minute of it.

    Args:
        console: where they go.
        from_start: print the first one, too; without it work that is done in half a minute prints nothing.
    """

    def __init__(self, console: Console, *, from_start: bool = True) -> None:
        self._console = console
        self._from_start = from_start
        self._lock = Lock()
        self._seen: set[str] = set()
        self._state: tuple[str, int, int | None] | None = None
        self._printed = monotonic()
        self._ended = Event()
        self._thread = Thread(target=self._remind, name="radixcache-progress", daemon=True)

    def __enter__(self) -> ProgressLines:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def update(self, phase: str, done: int, total: int | None) -> None:
        """As `Progress.update`."""
        with self._lock:
            begins = self._from_start and not done and phase not in self._seen
            self._seen.add(phase)
            finished = total is not None and done >= total
            self._state = None if finished else (phase, done, total)
            if not finished and (begins or monotonic() - self._printed >= _LINE_EVERY_S):
                self._print()

    def remind(self) -> None:
        """Print a line if the last one is half a minute old."""
        with self._lock:
            if self._state is not None and monotonic() - self._printed >= _LINE_EVERY_S:
                self._print()

    def _remind(self) -> None:
        while not self._ended.wait(1.0):
            self.remind()

    def _print(self) -> None:
        assert self._state is not None
        phase, done, total = self._state
        self._printed = monotonic()
        of_total = "" if total is None else f" of {total:,}"
        count = f": {done:,}{of_total}" if done or of_total else ""
        self._console.print(f"{visible(phase)}{count}", markup=False, highlight=False, soft_wrap=True)


def show_progress(console: Console, *, from_start: bool = True) -> ProgressBars | ProgressLines:
    """Bars if the console is a terminal, else lines, as in `ProgressLines`."""
    return ProgressBars(console) if console.is_terminal else ProgressLines(console, from_start=from_start)
