"""`radixcache curve`: the hit rate of a log at every cache size."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
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
    DTYPES,
    Arrivals,
    BlockSizesOption,
    InterleaveOption,
    NamespaceByOption,
    RepeatOption,
    count,
)
from radixcache.cli.outputs import JsonOption, PngOption, check_outputs, deliver, report_console
from radixcache.cli.workload import read_workload
from radixcache.models import EMBEDDED_MODEL

__all__ = ["DtypeOption", "curve_command"]

DtypeOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"Type of keys and values: {DTYPES}; by default the model's own.",
        show_default=False,
    ),
]


class By(StrEnum):
    NAMESPACE = "namespace"


def curve_command(
    logs: LogsArgument,
    block_size: BlockSizesOption = None,
    by: Annotated[
        By | None, typer.Option(help="A curve for each namespace, in its own cache.", show_default=False)
    ] = None,
    capacity: Annotated[
        str | None,
        typer.Option(
            metavar="N,…", help="Capacities in blocks to add: 3000, 10k (10,000) or 1.5M.", show_default=False
        ),
    ] = None,
    sample: Annotated[
        float | None,
        typer.Option(
            metavar="R", help="Estimate from this share of the blocks, e.g. 0.1.", show_default=False
        ),
    ] = None,
    clairvoyant: Annotated[
        bool, typer.Option("--clairvoyant/--no-clairvoyant", help="The most that any policy could reach.")
    ] = True,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DIR|config.json",
            help="Also give capacities in GB for this model.",
            show_default=False,
        ),
    ] = None,
    dtype: DtypeOption = None,
    token_bytes: Annotated[
        int | None,
        typer.Option(
            "--bytes-per-token",
            metavar="N",
            parser=count("--bytes-per-token"),
            help="In place of a model.",
            show_default=False,
        ),
    ] = None,
    tokenizer: TokenizerOption = EMBEDDED_MODEL,
    arrivals: Annotated[
        Arrivals, typer.Option(help="In the order of the log, or by the recorded times.")
    ] = Arrivals.CLOSED,
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
    png_file: PngOption = None,
) -> None:
    """LRU hit rate of a log by cache size, for every size at once, without a model or a GPU.

    Examples:

      radixcache curve chats.jsonl

      radixcache curve traces/ --model config.json --dtype fp8 --png curve.png

      radixcache curve huge.jsonl.zst --sample 0.1 --block-size 16,64
    """
    from radixcache.curve.results import CurveRequest, make_curves
    from radixcache.sizes import parse_capacity, parse_count, parse_list
    from radixcache.workload.settings import SimulateSettings

    settings = SimulateSettings(
        arrivals=arrivals.value, interleave=interleave, repeat=repeat, namespace_by=namespace_by
    )
    reading = Reading(strict, limit, session_field, time_field, prompt_field, time_unit, max_line)
    reading.rules()
    check_logs(logs, folders=True)
    check_outputs(json_file, png_file, inputs=logs, also_read=[model])
    if png_file is not None:
        from radixcache.report.png import check_plotting

        check_plotting()
    console = report_console(json_file, png_file)

    from radixcache.report.json import write_report
    from radixcache.report.terminal.console import error_console
    from radixcache.report.terminal.curve import print_curves
    from radixcache.report.terminal.progress import show_progress

    errors = error_console()
    sizes = [] if block_size is None else parse_list("--block-size", block_size)
    extra = [] if capacity is None else parse_list("--capacity", capacity)
    request = CurveRequest(
        block_sizes=tuple(parse_count("--block-size", text) for text in sizes),
        by=None if by is None else "namespace",
        sample=sample,
        capacities=tuple(parse_capacity(text, "--capacity") for text in extra),
        clairvoyant=clairvoyant,
        bytes_per_token=_bytes_per_token(model, dtype, token_bytes, errors.notify),
    )
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
            on_progress=progress.update,
        )

    def draw(path: Path) -> None:
        from radixcache.report.png import write_png

        write_png(report, path)

    deliver(
        lambda: print_curves(report, console),
        (json_file, lambda path: write_report(report, path)),
        (png_file, draw),
    )


def _bytes_per_token(
    model: str | None, dtype: str | None, stated: int | None, notify: Callable[[str], None]
) -> int | None:
    if model is None:
        if dtype is not None:
            raise ValueError("--dtype is of the keys and values of a model: --model is needed, too")
        return stated
    if stated is not None:
        raise ValueError("--model and --bytes-per-token exclude each other")
    from radixcache.models.configs import read_config
    from radixcache.plan.shape import dtype_bits, shape_of

    shape = shape_of(model, read_config(model, notify))
    return shape.bytes_per_token(dtype_bits(dtype or shape.dtype))
