"""`radixcache replay`: a log through a real model, with the prefix cache off and on."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from radixcache.cli.options import (
    Arrivals,
    BadLines,
    InterleaveOption,
    JsonOption,
    LimitOption,
    NamespaceByOption,
    SpeedOption,
    StrictOption,
    check_limit,
    check_logs,
    check_outputs,
)
from radixcache.models import EMBEDDED_MODEL

__all__ = ["replay_command"]


class CacheMode(StrEnum):
    ON = "on"
    OFF = "off"
    COMPARE = "compare"


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
    speed: SpeedOption = 1.0,
    interleave: InterleaveOption = None,
    limit: LimitOption = None,
    namespace_by: NamespaceByOption = None,
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Always generate to the limit of new tokens.")
    ] = False,
    strict: StrictOption = False,
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(metavar="NAME", help="auto, float32, bfloat16 or float16.")] = "auto",
    kv_dtype: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Keys and values are stored as: auto (the model's type), fp16, bf16, fp8, int8 or int4.",
        ),
    ] = "auto",
    json_file: JsonOption = None,
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
    check_limit(limit)
    check_logs(logs)
    check_outputs(json_file, requests_out, inputs=logs, also_read=[model])

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
        kv_dtype=kv_dtype,
        concurrency=concurrency,
        notify=lambda line: errors.print(line, markup=False),
    )
    bad_lines = BadLines(errors)
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
