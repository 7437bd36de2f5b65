"""`radixcache simulate`: a log against caches of any size and policy, without a model."""

from __future__ import annotations

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
from radixcache.cli.workload import LogsArgument, TokenizerOption, TraceBlockOption, read_workload
from radixcache.models import EMBEDDED_MODEL

__all__ = ["simulate_command"]

_POLICIES = "lru,auto,clairvoyant"


def simulate_command(
    logs: LogsArgument,
    capacity: Annotated[
        str, typer.Option(metavar="N,…", help="Blocks in the cache: 3000, 10k, 1.5M or unbounded.")
    ] = "unbounded",
    policy: Annotated[
        str, typer.Option(metavar="NAME,…", help="Eviction policies, and clairvoyant, the bound on them all.")
    ] = _POLICIES,
    block_size: Annotated[
        str | None,
        typer.Option(
            metavar="N,…",
            help="Tokens in a block; 16, or for hashes what one stands for, if left out.",
            show_default=False,
        ),
    ] = None,
    tokenizer: TokenizerOption = EMBEDDED_MODEL,
    whole_blocks: Annotated[
        bool,
        typer.Option("--whole-blocks", help="Only by the rule of published hit rates: whole blocks."),
    ] = False,
    outputs: Annotated[
        bool, typer.Option("--outputs", help="Cache logged answers, too, as an engine does.")
    ] = False,
    arrivals: Annotated[
        Arrivals,
        typer.Option(help="One request after another, or at the recorded times, holding blocks meanwhile."),
    ] = Arrivals.CLOSED,
    speed: SpeedOption = 1.0,
    prefill_speed: Annotated[
        float, typer.Option(metavar="X", help="Prompt tokens a second, for arrivals by timestamp.")
    ] = 10_000.0,
    decode_speed: Annotated[
        float, typer.Option(metavar="X", help="Answer tokens a second, for arrivals by timestamp.")
    ] = 50.0,
    interleave: InterleaveOption = None,
    repeat: Annotated[int, typer.Option(metavar="N", help="The log N times over.")] = 1,
    limit: LimitOption = None,
    namespace_by: NamespaceByOption = None,
    trace_block: TraceBlockOption = 512,
    strict: StrictOption = False,
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
    """Say what hit rate a log gets from caches of any size and policy, without a model or a GPU."""
    from radixcache.simulate.simulate import Caches, simulate
    from radixcache.sizes import parse_capacity, parse_count, parse_list
    from radixcache.workload.settings import SimulateSettings

    settings = SimulateSettings(
        arrivals=arrivals.value,
        speed=speed,
        prefill_speed=prefill_speed,
        decode_speed=decode_speed,
        interleave=interleave,
        repeat=repeat,
        namespace_by=namespace_by,
        outputs=outputs,
        whole_blocks=whole_blocks,
    )
    caches = Caches(
        policies=parse_list("policy", policy),
        capacities=[parse_capacity(text) for text in parse_list("capacity", capacity)],
        block_sizes=[parse_count("block_size", text) for text in parse_list("block_size", block_size)]
        if block_size is not None
        else [],
    )
    check_limit(limit)
    check_logs(logs, folders=True)
    check_outputs(json_file, requests_out, inputs=logs, also_read=[tokenizer])

    from rich.console import Console

    from radixcache.report.json import write_report, write_requests
    from radixcache.report.terminal.progress import ProgressBars
    from radixcache.report.terminal.simulate import print_simulations

    errors = Console(stderr=True)
    with ProgressBars(errors) as bars:
        log = read_workload(
            logs,
            tokenizer,
            bad_lines=BadLines(errors),
            bars=bars,
            notify=lambda line: errors.print(line, markup=False),
            trace_block=trace_block,
            strict=strict,
            limit=limit,
            namespace_by=namespace_by,
            answers=outputs or arrivals is Arrivals.TIMESTAMPS,
        )
        outcome = simulate(
            log.workload,
            caches,
            settings,
            logs=log.files,
            bad_lines=log.bad_lines,
            tokenizer=log.tokenizer,
            keep_records=requests_out is not None,
            on_progress=bars.update,
        )
    if json_file is not None:
        write_report(outcome.report, json_file)
    if requests_out is not None:
        write_requests(outcome.records, requests_out)
    print_simulations(outcome.report, Console())
