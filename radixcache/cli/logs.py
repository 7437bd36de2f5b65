"""Logs on the command line: the options that say how they are read, and what is checked before that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from radixcache.cli.options import count, memory

if TYPE_CHECKING:
    from rich.console import Console

    from radixcache.logs import BadLine, LineRules

__all__ = [
    "BadLines",
    "LimitOption",
    "LogsArgument",
    "MaxLineOption",
    "OptionalLogsArgument",
    "PromptFieldOption",
    "Reading",
    "SessionFieldOption",
    "StrictOption",
    "TimeFieldOption",
    "TimeUnit",
    "TimeUnitOption",
    "TokenizerOption",
    "TraceBlockOption",
    "check_logs",
]

_BAD_LINES_SHOWN = 100
_NOTES_SHOWN = 20
_LOGS = (
    "Requests, exports, transcripts or traces in any of the formats of docs/log-formats.md, plain or "
    "compressed (gzip, xz, zstandard); files or folders; - reads standard input."
)

LogsArgument = Annotated[list[str], typer.Argument(metavar="LOG", help=_LOGS, show_default=False)]
OptionalLogsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="LOG", help=_LOGS, show_default=False)
]
TokenizerOption = Annotated[
    str,
    typer.Option(
        metavar="NAME|DIR", help="Model whose tokenizer and chat template to use for text in the log."
    ),
]
TraceBlockOption = Annotated[
    int,
    typer.Option(
        metavar="N",
        parser=count("--trace-block"),
        help="Tokens that a hash of a Mooncake trace stands for.",
    ),
]
LimitOption = Annotated[
    int | None,
    typer.Option(metavar="N", parser=count("--limit"), help="Only the first N requests.", show_default=False),
]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Stop at the first bad line instead of skipping it.")
]
SessionFieldOption = Annotated[
    str | None,
    typer.Option(
        metavar="FIELD",
        help="Field (dotted path) that names the session, in place of session_id.",
        show_default=False,
    ),
]
TimeFieldOption = Annotated[
    str | None,
    typer.Option(
        metavar="FIELD", help="Field (dotted path) of the time, in place of timestamp.", show_default=False
    ),
]
PromptFieldOption = Annotated[
    str | None,
    typer.Option(
        metavar="FIELD",
        help="Field (dotted path) of the prompt, if no format has it: text, messages, token ids or a body.",
        show_default=False,
    ),
]


class TimeUnit(StrEnum):
    """Units of numbers that are times."""

    SECONDS = "s"
    MILLISECONDS = "ms"
    MICROSECONDS = "us"
    NANOSECONDS = "ns"


TimeUnitOption = Annotated[
    TimeUnit | None,
    typer.Option(
        help="Unit of the log's times; by default that of the format, or by their size.", show_default=False
    ),
]
MaxLineOption = Annotated[
    int | None,
    typer.Option(
        metavar="SIZE",
        parser=memory("--max-line"),
        help="Longest line to read, e.g. 32MB; by default 64MiB, and 8MiB where its prompt is text, which "
        "takes about 200 times its size in memory.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class Reading:
    """How logs are read, as the options above say."""

    strict: bool
    limit: int | None
    session_field: str | None
    time_field: str | None
    prompt_field: str | None
    time_unit: TimeUnit | None
    max_line: int | None

    def rules(self) -> LineRules:
        """The rules of `read_logs`; ValueError for a field that cannot be one."""
        from radixcache.logs.rules import MAX_TEXT_BYTES, LineRules

        return LineRules(
            session_field=self.session_field,
            time_field=self.time_field,
            prompt_field=self.prompt_field,
            time_unit=None if self.time_unit is None else self.time_unit.value,
            max_bytes=self.max_line,
            max_text_bytes=MAX_TEXT_BYTES if self.max_line is None else None,
        )


def check_logs(logs: Sequence[str], *, folders: bool = False) -> None:
    """Find a missing log before much is done for it; ValueError names it.

    With `folders` a folder is as good as a file.
    """
    if logs.count("-") > 1:
        raise ValueError("standard input (-) can be read only once")
    for log in logs:
        if log == "-":
            continue
        if not log:
            raise ValueError("the name of a log is empty")
        try:
            if Path(log).is_dir():
                if not folders:
                    raise ValueError(f"{log} is a folder; a log file is needed")
            elif not Path(log).exists():
                raise ValueError(f"{log}: no such file")
        except OSError as error:
            raise ValueError(f"{log}: cannot be read: {error.strerror or error}") from None


class BadLines:
    """Counts bad lines and prints them, up to a number that nobody reads beyond; counts notes on requests."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.count = 0
        self._notes: Counter[str] = Counter()

    def __call__(self, bad: BadLine) -> None:
        from rich.text import Text

        from radixcache.report.text import visible

        self.count += 1
        if self.count <= _BAD_LINES_SHOWN:
            self._console.print(Text(f"skipped: {visible(str(bad), limit=300)}"), soft_wrap=True)

    def note(self, text: str) -> None:
        """Count a request of which something was not read."""
        self._notes[text] += 1

    def print_rest(self) -> None:
        """Say how many bad lines were not printed, and what was noted of how many requests."""
        from rich.text import Text

        from radixcache.report.text import number_of, visible

        for text, times in self._notes.most_common(_NOTES_SHOWN):
            line = f"note: in {number_of(times, 'request')} {visible(text, limit=200)}"
            self._console.print(Text(line), soft_wrap=True)
        if self.count > _BAD_LINES_SHOWN:
            self._console.print(f"skipped: {self.count - _BAD_LINES_SHOWN:,} more bad lines", soft_wrap=True)
