"""`radixcache plan`: what fits into a GPU's memory, and what a log makes of it."""

from __future__ import annotations

from typing import Annotated

import typer

from radixcache.cli.curve import DtypeOption
from radixcache.cli.options import (
    BadLines,
    InterleaveOption,
    JsonOption,
    LimitOption,
    NamespaceByOption,
    StrictOption,
    check_limit,
    check_logs,
    check_outputs,
)
from radixcache.cli.workload import TokenizerOption, TraceBlockOption, read_workload
from radixcache.models import EMBEDDED_MODEL

__all__ = ["plan_command"]


def plan_command(
    model: Annotated[str, typer.Option(metavar="NAME|DIR|config.json", help="Only its shape is read.")],
    gpu_memory: Annotated[str, typer.Option(metavar="SIZE", help="80GB (10^9 bytes) or 80GiB (2^30).")],
    context: Annotated[str, typer.Option(metavar="N", help="Tokens a sequence; 32k is 32,768.")],
    logs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[LOG]", help="Also give their hit rate there.", show_default=False),
    ] = None,
    dtype: DtypeOption = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Memory of the weights; else the size of their files, or an estimate from the shape.",
            show_default=False,
        ),
    ] = None,
    block_size: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Tokens in a block; 16, or for hashes what one stands for, if left out.",
            show_default=False,
        ),
    ] = None,
    tokenizer: TokenizerOption = EMBEDDED_MODEL,
    interleave: InterleaveOption = None,
    limit: LimitOption = None,
    namespace_by: NamespaceByOption = None,
    trace_block: TraceBlockOption = 512,
    strict: StrictOption = False,
    json_file: JsonOption = None,
) -> None:
    """Say how many tokens and sequences fit beside a model, and the hit rate of a log in that room."""
    from radixcache.models.configs import read_config
    from radixcache.plan.plan import plan
    from radixcache.plan.shape import shape_of
    from radixcache.sizes import parse_bytes, parse_context
    from radixcache.workload.settings import SimulateSettings

    settings = SimulateSettings(interleave=interleave, namespace_by=namespace_by)
    memory = parse_bytes("--gpu-memory", gpu_memory)
    length = parse_context("--context", context)
    taken = None if weights is None else parse_bytes("--weights", weights, least=0)
    if block_size is not None and block_size < 1:
        raise ValueError(f"--block-size is {block_size}; at least 1 is needed")
    check_limit(limit)
    check_logs(logs or [], folders=True)
    check_outputs(json_file, inputs=logs or [], also_read=[model])

    from dataclasses import replace

    from rich.console import Console

    from radixcache.report.json import write_report
    from radixcache.report.terminal.plan import print_plan
    from radixcache.report.terminal.progress import ProgressBars

    errors = Console(stderr=True)

    def notify(line: str) -> None:
        errors.print(line, markup=False)

    result = plan(
        shape_of(model, read_config(model, notify)),
        gpu_memory=memory,
        context=length,
        dtype=dtype,
        weights=taken,
    )
    if logs:
        from radixcache.plan.plan import plan_for_log

        with ProgressBars(errors) as bars:
            log = read_workload(
                logs,
                tokenizer,
                bad_lines=BadLines(errors),
                bars=bars,
                notify=notify,
                trace_block=trace_block,
                strict=strict,
                limit=limit,
                namespace_by=namespace_by,
            )
        result = replace(
            result, log=plan_for_log(log.workload, settings, result, logs=log.files, block_size=block_size)
        )
    if json_file is not None:
        write_report(result, json_file)
    print_plan(result, Console())
