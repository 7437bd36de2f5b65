"""`radixcache simulate`: a log against caches of any size and policy, without a model."""

from __future__ import annotations

from typing import Annotated

import typer

from radixcache.cli.logs import (
    BadLines,
    LimitOption,
    LogsArgument,
    MaxLineOption,
    PromptFieldOption,
    Reading,
    SessionFieldOption,
    StrictOption,
    TimeFieldOption,
    TimeUnitOption,
    TokenizerOption,
    TraceBlockOption,
    check_logs,
)
from radixcache.cli.options import (
    POLICIES,
    Arrivals,
    ArrivalsOption,
    BlockSizesOption,
    CapacitiesOption,
    DecodeSpeedOption,
    InterleaveOption,
    NamespaceByOption,
    OutputsOption,
    RepeatOption,
    SpeedOption,
    WholeBlocksOption,
    positive,
)
from radixcache.cli.outputs import JsonOption, RequestsOutOption, check_outputs, deliver, report_console
from radixcache.cli.workload import read_workload
from radixcache.models import EMBEDDED_MODEL

__all__ = ["simulate_command"]


def simulate_command(
    logs: LogsArgument,
    capacity: CapacitiesOption = "unbounded",
    policy: Annotated[
        str,
        typer.Option(
            metavar="NAME,…",
            help=f"Eviction policies: {POLICIES}; and clairvoyant, the bound on them all.",
        ),
    ] = "lru,auto,clairvoyant",
    block_size: BlockSizesOption = None,
    tokenizer: TokenizerOption = EMBEDDED_MODEL,
    whole_blocks: WholeBlocksOption = False,
    outputs: OutputsOption = False,
    arrivals: ArrivalsOption = Arrivals.CLOSED,
    speed: SpeedOption = 1.0,
    prefill_speed: Annotated[
        float,
        typer.Option(
            metavar="X",
            parser=positive("--prefill-speed"),
            help="Prompt tokens a second, for arrivals by timestamp.",
        ),
    ] = 10_000.0,
    decode_speed: DecodeSpeedOption = 50.0,
    interleave: InterleaveOption = None,
    repeat: RepeatOption = 1,
    limit: LimitOption = None,
    namespace_by: NamespaceByOption = None,
    session_field: SessionFieldOption = None,
    time_field: TimeFieldOption = None,
    prompt_field: PromptFieldOption = None,
    time_unit: TimeUnitOption = None,
    max_line: MaxLineOption = None,
    trace_block: TraceBlockOption = 512,
    strict: StrictOption = False,
    json_file: JsonOption = None,
    requests_out: RequestsOutOption = None,
) -> None:
    """Hit rates of a log in caches of any size and policy, without a model or a GPU.

    Examples:

      radixcache simulate chats.jsonl --capacity 1k,10k,unbounded

      radixcache simulate traces/ --policy lru,auto,s3fifo --block-size 16,64

      zcat chats.jsonl.gz | radixcache simulate - --json - | jq .results
    """
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
    sizes = [] if block_size is None else parse_list("--block-size", block_size)
    caches = Caches(
        policies=parse_list("--policy", policy),
        capacities=[parse_capacity(text, "--capacity") for text in parse_list("--capacity", capacity)],
        block_sizes=[parse_count("--block-size", text) for text in sizes],
    )
    reading = Reading(strict, limit, session_field, time_field, prompt_field, time_unit, max_line)
    reading.rules()
    check_logs(logs, folders=True)
    check_outputs(json_file, requests_out, inputs=logs, also_read=[tokenizer])
    console = report_console(json_file, requests_out)

    from radixcache.report.json import write_report, write_requests
    from radixcache.report.terminal.console import error_console
    from radixcache.report.terminal.progress import show_progress
    from radixcache.report.terminal.simulate import print_simulations

    errors = error_console()
    with show_progress(errors, from_start=False) as progress:
        log = read_workload(
            logs,
            tokenizer,
            reading,
            bad_lines=BadLines(errors),
            progress=progress,
            notify=errors.notify,
            trace_block=trace_block,
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
            on_progress=progress.update,
        )
    deliver(
        lambda: print_simulations(outcome.report, console),
        (json_file, lambda path: write_report(outcome.report, path)),
        (requests_out, lambda path: write_requests(outcome.records, path)),
    )
