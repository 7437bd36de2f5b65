"""`radixcache curve`: the hit rate of a log at every cache size."""

from __future__ import annotations

from collections.abc import Callable
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
    StrictOption,
    check_limit,
    check_logs,
    check_outputs,
)
from radixcache.cli.workload import LogsArgument, TokenizerOption, TraceBlockOption, read_workload
from radixcache.models import EMBEDDED_MODEL

__all__ = ["DtypeOption", "curve_command"]

DtypeOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Of keys and values: fp16, bf16, fp8, int8, ...; the model's own if left out.",
        show_default=False,
    ),
]


class By(StrEnum):
    NAMESPACE = "namespace"


def curve_command(
    logs: LogsArgument,
    block_size: Annotated[
        str | None,
        typer.Option(
            metavar="N,…",
            help="Tokens in a block, a curve for each; 16, or for hashes what one stands for, if left out.",
            show_default=False,
        ),
    ] = None,
    by: Annotated[
        By | None, typer.Option(help="A curve for each, in a cache of its own.", show_default=False)
    ] = None,
    capacity: Annotated[
        str | None,
        typer.Option(metavar="N,…", help="Blocks to show besides: 3000, 10k or 1.5M.", show_default=False),
    ] = None,
    sample: Annotated[
        float | None,
        typer.Option(metavar="R", help="Estimate from this share of the blocks.", show_default=False),
    ] = None,
    clairvoyant: Annotated[
        bool, typer.Option("--clairvoyant/--no-clairvoyant", help="The most that any policy could reach.")
    ] = True,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DIR|config.json", help="Also give capacities in GB, for it.", show_default=False
        ),
    ] = None,
    dtype: DtypeOption = None,
    token_bytes: Annotated[
        int | None,
        typer.Option("--bytes-per-token", metavar="N", help="In place of a model.", show_default=False),
    ] = None,
    tokenizer: TokenizerOption = EMBEDDED_MODEL,
    arrivals: Annotated[
        Arrivals, typer.Option(help="In the order of the log, or by the recorded times.")
    ] = Arrivals.CLOSED,
    interleave: InterleaveOption = None,
    repeat: Annotated[int, typer.Option(metavar="N", help="The log N times over.")] = 1,
    limit: LimitOption = None,
    namespace_by: NamespaceByOption = None,
    trace_block: TraceBlockOption = 512,
    strict: StrictOption = False,
    json_file: JsonOption = None,
    png_file: Annotated[
        Path | None,
        typer.Option(
            "--png", metavar="FILE", help="Draw the curves, with the extra plot.", show_default=False
        ),
    ] = None,
) -> None:
    """Draw a log's LRU hit rate by cache size, for every size at once, without a model or a GPU."""
    from radixcache.curve.results import CurveRequest, make_curves
    from radixcache.sizes import parse_capacity, parse_count, parse_list
    from radixcache.workload.settings import SimulateSettings

    settings = SimulateSettings(
        arrivals=arrivals.value, interleave=interleave, repeat=repeat, namespace_by=namespace_by
    )
    check_limit(limit)
    check_logs(logs, folders=True)
    check_outputs(json_file, png_file, inputs=logs, also_read=[model])
    if png_file is not None:
        from radixcache.report.png import check_plotting

        check_plotting()

    from rich.console import Console

    from radixcache.report.json import write_report
    from radixcache.report.terminal.curve import print_curves
    from radixcache.report.terminal.progress import ProgressBars

    errors = Console(stderr=True)

    def notify(line: str) -> None:
        errors.print(line, markup=False)

    sizes = [] if block_size is None else parse_list("block_size", block_size)
    extra = [] if capacity is None else parse_list("capacity", capacity)
    request = CurveRequest(
        block_sizes=tuple(parse_count("block_size", text) for text in sizes),
        by=None if by is None else "namespace",
        sample=sample,
        capacities=tuple(parse_capacity(text) for text in extra),
        clairvoyant=clairvoyant,
        bytes_per_token=_bytes_per_token(model, dtype, token_bytes, notify),
    )
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
            on_disk=sample is not None,
        )
        report = make_curves(
            log.workload,
            request,
            settings,
            logs=log.files,
            bad_lines=log.bad_lines,
            tokenizer=log.tokenizer,
            model=model,
            on_progress=bars.update,
        )
    if json_file is not None:
        write_report(report, json_file)
    if png_file is not None:
        from radixcache.report.png import write_png

        write_png(report, png_file)
    print_curves(report, Console())


def _bytes_per_token(
    model: str | None, dtype: str | None, stated: int | None, notify: Callable[[str], None]
) -> int | None:
    if model is None:
        if dtype is not None:
            raise ValueError("--dtype is of the keys and values of a model: --model is needed, too")
        if stated is not None and stated < 1:
            raise ValueError(f"--bytes-per-token is {stated}; at least 1 is needed")
        return stated
    if stated is not None:
        raise ValueError("--model and --bytes-per-token exclude each other")
    from radixcache.models.configs import read_config
    from radixcache.plan.shape import dtype_bits, shape_of

    shape = shape_of(model, read_config(model, notify))
    return shape.bytes_per_token(dtype_bits(dtype or shape.dtype))
