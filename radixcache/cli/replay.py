"""`radixcache replay`: a log through a real model, with the prefix cache off and on."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from radixcache.models import EMBEDDED_MODEL

if TYPE_CHECKING:
    from rich.console import Console

    from radixcache.logs import BadLine

__all__ = ["replay_command"]

_BAD_LINES_SHOWN = 100


class CacheMode(StrEnum):
    ON = "on"
    OFF = "off"
    COMPARE = "compare"


class Arrivals(StrEnum):
    CLOSED = "closed"
    TIMESTAMPS = "timestamps"


def replay_command(
    logs: Annotated[
        list[str],
        typer.Argument(
            metavar="LOG",
            help="JSON lines, plain or .gz, .xz, .zst; - reads standard input.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str, typer.Option(metavar="NAME|DIR", help="The embedded model, a folder, a GGUF file or a hub name.")
    ] = EMBEDDED_MODEL,
    cache: Annotated[
        CacheMode, typer.Option(help="Prefix cache on, off, or one run of each to compare.")
    ] = CacheMode.COMPARE,
    block_size: Annotated[int, typer.Option(metavar="N", help="Tokens in a block.")] = 16,
    cache_tokens: Annotated[
        int | None, typer.Option(metavar="N", help="Room for keys and values, in tokens.", show_default=False)
    ] = None,
    cache_gb: Annotated[
        float | None, typer.Option(metavar="X", help="Room for keys and values, in GiB.", show_default=False)
    ] = None,
    max_tokens: Annotated[
        int, typer.Option(metavar="N", help="The most new tokens a request; the log's own limit if smaller.")
    ] = 16,
    concurrency: Annotated[
        int, typer.Option(metavar="N", help="Requests in flight, for closed arrivals.")
    ] = 1,
    arrivals: Annotated[
        Arrivals, typer.Option(help="Submit the next request as one ends, or at the recorded times.")
    ] = Arrivals.CLOSED,
    speed: Annotated[
        float,
        typer.Option(metavar="X", help="Recorded times pass X times faster, for arrivals by timestamp."),
    ] = 1.0,
    interleave: Annotated[
        int | None, typer.Option(metavar="N", help="Let N sessions take turns.", show_default=False)
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="Only the first N requests.", show_default=False)
    ] = None,
    namespace_by: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD",
            help="Requests share the cache only where this field (dotted path) is equal.",
            show_default=False,
        ),
    ] = None,
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Always generate to the limit of new tokens.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first bad line instead of skipping it.")
    ] = False,
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(metavar="NAME", help="auto, float32, bfloat16 or float16.")] = "auto",
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write the report as JSON.", show_default=False),
    ] = None,
    requests_out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.jsonl",
            help="Write a line of JSON for each request of each run.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Replay a prompt log through a model and report what the prefix cache was worth."""
    from radixcache.replay.settings import ReplaySettings
    from radixcache.report.files import check_writable

    settings = ReplaySettings(
        cache=cache.value,
        max_tokens=max_tokens,
        arrivals=arrivals.value,
        concurrency=concurrency,
        speed=speed,
        interleave=interleave,
        namespace_by=namespace_by,
        ignore_eos=ignore_eos,
    )
    if cache_tokens is not None and cache_gb is not None:
        raise ValueError("--cache-tokens and --cache-gb exclude each other")
    if limit is not None and limit < 1:
        raise ValueError(f"--limit is {limit}; at least 1 is needed")
    _check_logs(logs)
    for path in (json_file, requests_out):
        if path is not None:
            check_writable(path)

    from rich.console import Console

    from radixcache.logs import read_logs
    from radixcache.replay.encode import PromptEncoder
    from radixcache.replay.prepare import prepare
    from radixcache.replay.replay import replay
    from radixcache.replay.target import load_target
    from radixcache.report.json import write_report, write_requests
    from radixcache.report.progress import ProgressBars
    from radixcache.report.terminal import print_report

    errors = Console(stderr=True)
    target = load_target(
        model,
        device=device,
        dtype=dtype,
        block_size=block_size,
        cache_tokens=cache_tokens,
        cache_gb=cache_gb,
        concurrency=concurrency,
        notify=lambda line: errors.print(line, markup=False),
    )
    bad_lines = _BadLines(errors)
    with ProgressBars(errors) as bars:
        log = read_logs(logs, strict=strict, on_bad_line=bad_lines, limit=limit)
        encoder = PromptEncoder(target.tokenizer, model)
        requests = prepare(log, encoder, settings, lambda done: bars.update("reading", done, limit))
        bars.update("reading", len(requests), len(requests))
        bad_lines.print_rest()
        outcome = replay(
            requests,
            target,
            settings,
            logs=logs,
            bad_lines=bad_lines.count,
            on_progress=lambda run, done, total: bars.update(f"cache {run}", done, total),
        )
    if json_file is not None:
        write_report(outcome.report, json_file)
    if requests_out is not None:
        write_requests(outcome.records, requests_out)
    print_report(outcome.report, outcome.records, Console())


def _check_logs(logs: list[str]) -> None:
    """Find a missing log before a model is loaded for it."""
    if logs.count("-") > 1:
        raise ValueError("standard input (-) can be read only once")
    for log in logs:
        if log == "-":
            continue
        if Path(log).is_dir():
            raise ValueError(f"{log} is a folder; a log file is needed")
        if not Path(log).exists():
            raise ValueError(f"{log}: no such file")


class _BadLines:
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
