"""`radixcache replay`: a log through a real model, with the prefix cache off and on."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from radixcache.cli.engine_options import DType, Invariant, KVDType, check_engine_options
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
from radixcache.extras import require_extra
from radixcache.models import EMBEDDED_MODEL

__all__ = ["replay_command"]

EXIT_WRONG_ANSWERS = 1
_PHASES = {"off": "cache off", "on": "cache on", "compare": "comparing outputs"}


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
    dtype: Annotated[DType, typer.Option(help="What the model computes in.")] = DType.AUTO,
    kv_dtype: Annotated[
        KVDType, typer.Option(help="What keys and values are stored as; auto is the model's type.")
    ] = KVDType.AUTO,
    invariant: Annotated[
        Invariant,
        typer.Option(
            help="Answers that do not depend on batching and cache hits: on refuses to start where that "
            "cannot be had, off is for speed, auto has it on a CPU, and on a GPU where it is cheap."
        ),
    ] = Invariant.AUTO,
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
    """Replay a prompt log through a model and report what the prefix cache was worth.

    The exit status is 1 if outputs differ with the cache off and on by more than rounding explains, though
    the engine says that they do not depend on the cache.
    """
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
    check_engine_options(device=device, block_size=block_size, cache_tokens=cache_tokens, cache_gb=cache_gb)
    check_limit(limit)
    check_logs(logs)
    check_outputs(json_file, requests_out, inputs=logs, also_read=[model])

    require_extra("engine", "replay")

    from rich.console import Console

    from radixcache.report.text import visible

    errors = Console(stderr=True)

    def tell(line: str) -> None:
        errors.print(visible(line, limit=1000), markup=False, highlight=False, soft_wrap=True)

    # Said before torch is imported, which takes seconds.
    tell(f"loading model {model}")

    from radixcache.logs import read_logs
    from radixcache.prompts.encode import PromptEncoder
    from radixcache.replay.prepare import prepare
    from radixcache.replay.replay import replay
    from radixcache.replay.target import load_target
    from radixcache.report.equality import breaks_promise, rounding_warning
    from radixcache.report.json import write_report, write_requests
    from radixcache.report.terminal.progress import show_progress
    from radixcache.report.terminal.replay import print_report

    target = load_target(
        model,
        device=device,
        dtype=dtype.value,
        block_size=block_size,
        cache_tokens=cache_tokens,
        cache_gb=cache_gb,
        kv_dtype=kv_dtype.value,
        invariant=invariant.value,
        concurrency=concurrency,
        notify=tell,
    )
    bad_lines = BadLines(errors)
    with show_progress(errors) as progress:
        log = read_logs(logs, strict=strict, on_bad_line=bad_lines, limit=limit)
        encoder = PromptEncoder(target.tokenizer, model)
        requests = prepare(log, encoder, settings, lambda done: progress.update("reading", done, limit))
        progress.update("reading", len(requests), len(requests))
        bad_lines.print_rest()
        outcome = replay(
            requests,
            target,
            settings,
            logs=logs,
            bad_lines=bad_lines.count,
            on_progress=lambda phase, done, total: progress.update(_PHASES[phase], done, total),
            on_variance=lambda reason: tell(
                "warning: "
                + rounding_warning(
                    reason, invariant=target.invariant, dtype=target.dtype, device=target.device
                )
            ),
        )
    if json_file is not None:
        write_report(outcome.report, json_file)
    if requests_out is not None:
        write_requests(outcome.records, requests_out)
    print_report(outcome.report, outcome.records, Console())
    if breaks_promise(outcome.report):
        raise typer.Exit(EXIT_WRONG_ANSWERS)
