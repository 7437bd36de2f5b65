"""`radixcache plan`: what fits into a GPU's memory, and what a log makes of it."""

from __future__ import annotations

from typing import Annotated

import typer

from radixcache.cli.curve import DtypeOption
from radixcache.cli.logs import (
    BadLines,
    LimitOption,
    MaxLineOption,
    OptionalLogsArgument,
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
from radixcache.cli.options import BlockSizeOption, InterleaveOption, NamespaceByOption, memory
from radixcache.cli.outputs import JsonOption, check_outputs, deliver, report_console
from radixcache.cli.workload import read_workload
from radixcache.models import EMBEDDED_MODEL

__all__ = ["plan_command"]


def plan_command(
    model: Annotated[
        str, typer.Option(metavar="NAME|DIR|config.json", help="Model; only its config.json is read.")
    ],
    gpu_memory: Annotated[
        int,
        typer.Option(
            metavar="SIZE", parser=memory("--gpu-memory"), help="80GB (80 x 10^9 bytes) or 80GiB (80 x 2^30)."
        ),
    ],
    context: Annotated[
        str, typer.Option(metavar="N", help="Tokens a sequence; here k is 1,024, so 32k is 32,768.")
    ],
    logs: OptionalLogsArgument = None,
    dtype: DtypeOption = None,
    weights: Annotated[
        int | None,
        typer.Option(
            metavar="SIZE",
            parser=memory("--weights", least=0),
            help="Memory of the weights; by default the size of their files, or an estimate from the shape.",
            show_default=False,
        ),
    ] = None,
    block_size: BlockSizeOption = None,
    tokenizer: TokenizerOption = EMBEDDED_MODEL,
    interleave: InterleaveOption = None,
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
) -> None:
    """How many tokens and sequences fit beside a model, and a log's hit rate in that memory.

    Examples:

      radixcache plan --model config.json --gpu-memory 80GB --context 32k

      radixcache plan --model org/name --gpu-memory 141GB --context 128k --dtype fp8 chats.jsonl
    """
    from radixcache.models.configs import read_config
    from radixcache.plan.plan import plan
    from radixcache.plan.shape import shape_of
    from radixcache.sizes import parse_context
    from radixcache.workload.settings import SimulateSettings

    settings = SimulateSettings(interleave=interleave, namespace_by=namespace_by)
    length = parse_context("--context", context)
    reading = Reading(strict, limit, session_field, time_field, prompt_field, time_unit, max_line)
    reading.rules()
    check_logs(logs or [], folders=True)
    check_outputs(json_file, inputs=logs or [], also_read=[model])
    console = report_console(json_file)

    from dataclasses import replace

    from radixcache.report.json import write_report
    from radixcache.report.terminal.console import error_console
    from radixcache.report.terminal.plan import print_plan
    from radixcache.report.terminal.progress import show_progress

    errors = error_console()
    result = plan(
        shape_of(model, read_config(model, errors.notify)),
        gpu_memory=gpu_memory,
        context=length,
        dtype=dtype,
        weights=weights,
    )
    if logs:
        from radixcache.plan.plan import plan_for_log

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
            )
        result = replace(
            result, log=plan_for_log(log.workload, settings, result, logs=log.files, block_size=block_size)
        )
    deliver(lambda: print_plan(result, console), (json_file, lambda path: write_report(result, path)))
