"""Options that several commands have, and what they do with logs before they read them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from radixcache.logs import BadLine

__all__ = [
    "Arrivals",
    "BadLines",
    "InterleaveOption",
    "JsonOption",
    "LimitOption",
    "NamespaceByOption",
    "SpeedOption",
    "StrictOption",
    "check_limit",
    "check_logs",
    "check_outputs",
]

_BAD_LINES_SHOWN = 100


class Arrivals(StrEnum):
    CLOSED = "closed"
    TIMESTAMPS = "timestamps"


SpeedOption = Annotated[
    float, typer.Option(metavar="X", help="Recorded times pass X times faster, for arrivals by timestamp.")
]
InterleaveOption = Annotated[
    int | None, typer.Option(metavar="N", help="Let N sessions take turns.", show_default=False)
]
LimitOption = Annotated[
    int | None, typer.Option(metavar="N", help="Only the first N requests.", show_default=False)
]
NamespaceByOption = Annotated[
    str | None,
    typer.Option(
        metavar="FIELD",
        help="Requests share the cache only where this field (dotted path) is equal.",
        show_default=False,
    ),
]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Stop at the first bad line instead of skipping it.")
]
JsonOption = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write the report as JSON.", show_default=False),
]


def check_limit(limit: int | None) -> None:
    """Refuse a limit below 1 with ValueError."""
    if limit is not None and limit < 1:
        raise ValueError(f"--limit is {limit}; at least 1 is needed")


def check_logs(logs: Sequence[str], *, folders: bool = False) -> None:
    """Find a missing log before much is done for it; ValueError names it.

    With `folders` a folder is as good as a file.
    """
    if logs.count("-") > 1:
        raise ValueError("standard input (-) can be read only once")
    for log in logs:
        if log == "-":
            continue
        if Path(log).is_dir() and not folders:
            raise ValueError(f"{log} is a folder; a log file is needed")
        if not Path(log).exists():
            raise ValueError(f"{log}: no such file")


def check_outputs(
    *paths: Path | None, inputs: Sequence[str] = (), also_read: Sequence[str | None] = ()
) -> None:
    """Refuse, with ValueError, output files that could not be written, are named twice, or are inputs.

    Inputs are logs or folders of logs; what is read beside them (a model, prices) may be a file or a mere
    name.

    Raises:
        LogError: as `expand_folders`, for folders among the inputs.
    """
    from radixcache.files import check_writable
    from radixcache.logs.folders import expand_folders

    read = {Path(log).resolve() for log in expand_folders(inputs) if log != "-"}
    read.update(Path(name).resolve() for name in also_read if name is not None)
    written: set[Path] = set()
    for path in filter(None, paths):
        check_writable(path)
        place = path.resolve()
        if place.exists() and not place.is_file():
            continue  # a device or a pipe
        if place in read:
            raise ValueError(f"{path} is read; another file is needed to write")
        if place in written:
            raise ValueError(f"{path} is named for two outputs; each needs a file of its own")
        written.add(place)


class BadLines:
    """Counts bad lines and prints them, up to a number that nobody reads beyond."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.count = 0

    def __call__(self, bad: BadLine) -> None:
        from rich.text import Text

        from radixcache.report.text import visible

        self.count += 1
        if self.count <= _BAD_LINES_SHOWN:
            self._console.print(Text(f"skipped: {visible(str(bad), limit=300)}"), soft_wrap=True)

    def print_rest(self) -> None:
        """Say how many bad lines were not printed."""
        if self.count > _BAD_LINES_SHOWN:
            self._console.print(f"skipped: {self.count - _BAD_LINES_SHOWN:,} more bad lines", soft_wrap=True)
