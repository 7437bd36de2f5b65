"""`radixcache replay`: a log through a real model, with the prefix cache off and on."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from radixcache.cli.engine_options import DType, Invariant, KVDType, cache_bytes, check_engine_options
from radixcache.cli.logs import (
    BadLines,
    LimitOption,
    MaxLineOption,
    PromptFieldOption,
    Reading,
    SessionFieldOption,
    StrictOption,
    TimeFieldOption,
    TimeUnitOption,
    check_logs,
)
from radixcache.cli.options import (
    Arrivals,
    InterleaveOption,
    NamespaceByOption,
    SpeedOption,
    count,
    memory,
)
from radixcache.cli.outputs import JsonOption, RequestsOutOption, check_outputs, deliver, report_console
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
            help="Prompts (messages, prompt or prompt_token_ids) as JSON lines, plain or compressed (gzip, "
            "xz, zstandard); - reads standard input.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str, typer.Option(metavar="NAME|DIR", help="The embedded model, a folder, a GGUF file or a hub name.")
    ] = EMBEDDED_MODEL,
    cache: Annotated[
        CacheMode, typer.Option(help="Prefix cache on, off, or one run of each to compare.")
    ] = CacheMode.COMPARE,
    block_size: Annotated[
        int,
        typer.Option(
            metavar="N",
            parser=count("--block-size", least=0),
            help="Tokens in a block: a power of two up to 256.",
        ),
    ] = 16,
    cache_memory: Annotated[
        int | None,
        typer.Option(
            metavar="SIZE",
            parser=memory("--cache-memory"),
            help="Memory for keys and values: 4GB (4 x 10^9 bytes) or 4GiB (4 x 2^30).",
            show_default=False,
        ),
    ] = None,
    cache_tokens: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            parser=count("--cache-tokens", least=0, most=1 << 40),
            help="The same in tokens.",
            show_default=False,
        ),
    ] = None,
    cache_gb: Annotated[
        float | None,
        typer.Option(metavar="X", help="The same in GiB; older form of --cache-memory.", show_default=False),
    ] = None,
    max_tokens: Annotated[
        int,
        typer.Option(
            metavar="N",
            parser=count("--max-tokens"),
            help="Most new tokens a request; the log's own limit if smaller.",
        ),
    ] = 16,
    concurrency: Annotated[
        int,
        typer.Option(
            metavar="N",
            parser=count("--concurrency", most=1_000_000),
            help="Requests in flight, for closed arrivals.",
        ),
    ] = 1,
    arrivals: Annotated[
        Arrivals, typer.Option(help="Submit the next request as one ends, or at the recorded times.")
    ] = Arrivals.CLOSED,
    speed: SpeedOption = 1.0,
    interleave: InterleaveOption = None,
    limit: LimitOption = None,
    namespace_by: NamespaceByOption = None,
    session_field: SessionFieldOption = None,
    time_field: TimeFieldOption = None,
    prompt_field: PromptFieldOption = None,
    time_unit: TimeUnitOption = None,
    max_line: MaxLineOption = None,
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
    requests_out: RequestsOutOption = None,
) -> None:
    """Replay a log through a model with the prefix cache off and on: hit rate, time to first token, answers.

    Examples:

      radixcache replay chats.jsonl --limit 20

      radixcache replay chats.jsonl --model org/name --cache-memory 4GiB --concurrency 8 --json run.json

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
    room = cache_bytes(cache_memory=cache_memory, cache_tokens=cache_tokens, cache_gb=cache_gb)
    check_engine_options(device=device, block_size=block_size, cache_tokens=cache_tokens)
    reading = Reading(strict, limit, session_field, time_field, prompt_field, time_unit, max_line)
    rules = reading.rules()
    check_logs(logs)
    check_outputs(json_file, requests_out, inputs=logs, also_read=[model])

    require_extra("engine", "replay")
    console = report_console(json_file, requests_out)

    from radixcache.report.terminal.console import error_console
    from radixcache.report.terminal.progress import show_progress

    errors = error_console()
    bad_lines = BadLines(errors)
    with show_progress(errors) as progress:
        loading = f"loading model {model}"
        progress.update(loading, 0, None)  # before torch is imported, which takes seconds

        from radixcache.logs import read_logs
        from radixcache.prompts.encode import PromptEncoder
        from radixcache.replay.prepare import prepare
        from radixcache.replay.replay import replay
        from radixcache.replay.target import load_target
        from radixcache.report.equality import breaks_promise, rounding_warning
        from radixcache.report.json import write_report, write_requests
        from radixcache.report.terminal.replay import print_report

        target = load_target(
            model,
            device=device,
            dtype=dtype.value,
            block_size=block_size,
            cache_tokens=cache_tokens,
            cache_memory=room,
            kv_dtype=kv_dtype.value,
            invariant=invariant.value,
            concurrency=concurrency,
            notify=errors.notify,
        )
        progress.update(loading, 1, 1)
        log = read_logs(
            logs,
            strict=strict,
            on_bad_line=bad_lines,
            on_note=bad_lines.note,
            limit=limit,
            rules=rules,
            must_find=True,
        )
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
            on_variance=lambda reason: errors.notify(
                "warning: "
                + rounding_warning(
                    reason, invariant=target.invariant, dtype=target.dtype, device=target.device
                )
            ),
        )
    deliver(
        lambda: print_report(outcome.report, outcome.records, console),
        (json_file, lambda path: write_report(outcome.report, path)),
        (requests_out, lambda path: write_requests(outcome.records, path)),
    )
    if breaks_promise(outcome.report):
        raise typer.Exit(EXIT_WRONG_ANSWERS)
