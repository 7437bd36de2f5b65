"""Files that commands write: their options, what is refused before the work, and printing before writing."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from radixcache.errors import RadixCacheError
from radixcache.files import STDOUT, check_writable

if TYPE_CHECKING:
    from radixcache.report.terminal.console import ReportConsole

__all__ = [
    "FixOption",
    "HtmlOption",
    "JsonOption",
    "PngOption",
    "RequestsOutOption",
    "check_outputs",
    "deliver",
    "give_up_stdout",
    "report_console",
]

_STDOUT_NAMES = frozenset({"-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"})
_OTHERS_ACCESS = 0o066


def _output(text: str) -> Path:
    if not text:
        raise typer.BadParameter("the name of a file is empty.")
    if text in _STDOUT_NAMES:
        return STDOUT
    path = Path(text)
    return Path.cwd() / path if path == STDOUT else path  # ./- is a file


JsonOption = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="FILE",
        parser=_output,
        help="Write the report as JSON; - is standard output.",
        show_default=False,
    ),
]
RequestsOutOption = Annotated[
    Path | None,
    typer.Option(
        "--requests-out",
        metavar="FILE.jsonl",
        parser=_output,
        help="Write a line of JSON for each request of each run.",
        show_default=False,
    ),
]
HtmlOption = Annotated[
    Path | None,
    typer.Option(
        "--html",
        metavar="FILE",
        parser=_output,
        help="Write one page that opens offline in any browser, with the extra html.",
        show_default=False,
    ),
]
PngOption = Annotated[
    Path | None,
    typer.Option(
        "--png",
        metavar="FILE",
        parser=_output,
        help="Draw the curves, with the extra plot.",
        show_default=False,
    ),
]
FixOption = Annotated[
    Path | None,
    typer.Option(
        "--fix",
        metavar="FILE.jsonl",
        parser=_output,
        help="Write the log with all beneficial edits applied, or with those of --what-if; compressed if the "
        "name ends in .gz, .xz or .zst.",
        show_default=False,
    ),
]


def check_outputs(
    *paths: Path | None, inputs: Sequence[str] = (), also_read: Sequence[str | None] = ()
) -> None:
    """Refuse, with ValueError, output files that could not be written, are named twice, or are inputs.

    New files will be readable by no one who may not read the inputs: the process's umask is narrowed.

    Args:
        paths: the outputs.
        inputs: logs or folders of logs.
        also_read: files or mere names that are read beside them, such as a model or prices.

    Raises:
        LogError: as `expand_folders`, for folders among the inputs.
    """
    from radixcache.logs.folders import expand_folders, is_log_name

    logs = [log for log in expand_folders(inputs) if log != "-"]
    read = {Path(log).resolve() for log in logs}
    read.update(Path(name).resolve() for name in also_read if name is not None)
    folders = [Path(name).resolve() for name in inputs if name != "-" and Path(name).is_dir()]
    written: set[Path] = set()
    for path in filter(None, paths):
        check_writable(path)
        place = path if path == STDOUT else path.resolve()
        if place != STDOUT and place.exists() and not place.is_file():
            continue  # a device or a pipe
        if place in read:
            raise ValueError(f"{path} is read; another file is needed to write")
        if place in written:
            name = "standard output" if path == STDOUT else str(path)
            raise ValueError(f"{name} is named for two outputs; each must have its own file")
        if any(place.is_relative_to(folder) and is_log_name(place, folder) for folder in folders):
            raise ValueError(f"{path} would be one of the logs of a folder that is read; name another place")
        written.add(place)
    if written:
        _keep_private("-" in inputs, logs)


def _keep_private(stdin: bool, logs: Iterable[str]) -> None:
    """Narrow the umask to what the modes of the logs allow to others."""
    modes = []
    try:
        modes = [Path(log).stat().st_mode for log in logs]
        if stdin and sys.stdin is not None:
            modes.append(os.fstat(sys.stdin.fileno()).st_mode)
    except (OSError, ValueError):
        pass  # reading it will say what is wrong, or it is no file
    hidden = 0
    for mode in modes:
        if stat.S_ISREG(mode):
            hidden |= _OTHERS_ACCESS & ~mode
    os.umask(os.umask(0o077) | hidden)


def report_console(*paths: Path | None) -> ReportConsole:
    """Where the report for people goes: standard output, or standard error where a file takes its place."""
    from radixcache.report.terminal.console import ReportConsole

    return ReportConsole(stderr=STDOUT in paths)


def deliver(show: Callable[[], None], *outputs: tuple[Path | None, Callable[[Path], None]]) -> None:
    """Print a report, then write the files that were asked for; each is tried whatever fails before it.

    Raises:
        ValueError: naming all outputs that could not be written.
        BrokenPipeError: the reader of standard output is gone.
    """
    failures: list[str] = []
    gone: BrokenPipeError | None = None
    steps: list[Callable[[], None]] = [show]
    steps += [lambda p=path, w=write: w(p) for path, write in outputs if path is not None]  # type: ignore[misc]
    for step in steps:
        try:
            step()
            sys.stdout.flush()
        except BrokenPipeError as error:
            gone = error
            give_up_stdout()
        except OSError as error:
            failures.append(f"standard output cannot be written: {error.strerror or error}")
            give_up_stdout()
        except (RadixCacheError, ValueError) as error:
            failures.append(str(error))
    if failures:
        raise ValueError("; ".join(failures))
    if gone is not None:
        raise gone


def give_up_stdout() -> None:
    """Let what is still buffered for standard output go nowhere: its other end takes no more."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return  # not a file of the system's
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
