"""`radixcache doctor`: why a log missed, and what would undo it."""

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
    StrictOption,
    check_limit,
    check_logs,
    check_outputs,
)
from radixcache.cli.pricing import GpuHourOption, IntervalOption, PricingOption, read_pricing
from radixcache.cli.report import HtmlOption, RedactOption, check_page
from radixcache.cli.workload import TraceBlockOption

__all__ = ["doctor_command"]


def doctor_command(
    logs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="LOG",
            help="Prompts or block hashes as JSON, plain or .gz, .xz, .zst; files or folders; - reads "
            "standard input.",
            show_default=False,
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DIR",
            help="The model whose tokenizer and chat template text goes through; the embedded one if left "
            "out. Token ids are shown as text only if it is named.",
            show_default=False,
        ),
    ] = None,
    capacity: Annotated[
        str, typer.Option(metavar="N", help="Blocks in the cache: 3000, 10k, 1.5M or unbounded.")
    ] = "unbounded",
    policy: Annotated[str, typer.Option(metavar="NAME", help="Eviction policy.")] = "lru",
    block_size: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Tokens in a block; 16, or for hashes what one stands for, if left out.",
            show_default=False,
        ),
    ] = None,
    whole_blocks: Annotated[
        bool, typer.Option("--whole-blocks", help="Reuse whole blocks only, as many engines do.")
    ] = False,
    namespace_by: NamespaceByOption = None,
    ttl: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="A prefix is gone so long after its last use; the log needs timestamps.",
            show_default=False,
        ),
    ] = None,
    outputs: Annotated[
        bool, typer.Option("--outputs", help="Cache logged answers, too, as an engine does.")
    ] = False,
    arrivals: Annotated[
        Arrivals,
        typer.Option(help="One request after another, or at the recorded times, holding blocks meanwhile."),
    ] = Arrivals.CLOSED,
    interleave: InterleaveOption = None,
    what_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EDIT",
            help="Rewrite the log first: move:REGEX:end, move:REGEX:last, drop:REGEX, sort:tools, sort:json, "
            "sort:REGEX, keep:history. May be given several times.",
            show_default=False,
        ),
    ] = None,
    prefill_speed: Annotated[
        float | None,
        typer.Option(
            metavar="X", help="Prompt tokens a second, to say what misses cost in time.", show_default=False
        ),
    ] = None,
    pricing: PricingOption = None,
    gpu_hour: GpuHourOption = None,
    interval: IntervalOption = 10.0,
    limit: LimitOption = None,
    trace_block: TraceBlockOption = 512,
    strict: StrictOption = False,
    json_file: JsonOption = None,
    html_file: HtmlOption = None,
    redact: RedactOption = False,
    fix: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.jsonl",
            help="Write the log with the edits that gain something, or with those of --what-if.",
            show_default=False,
        ),
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Instead of a log: prove whether the chat template of a model, or in a file, keeps what it "
            "wrote while turns are added.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Say why a log's prompts missed the cache, rank what could be done, and measure what it would gain."""
    if template is not None:
        if logs:
            raise ValueError("--template takes no log")
        for name, given in (
            ("html", html_file),
            ("fix", fix),
            ("what-if", what_if),
            ("pricing", pricing),
            ("gpu-hour", gpu_hour),
        ):
            if given:
                raise ValueError(f"--{name} is for the diagnosis of a log; --template makes none")
        check_outputs(json_file, also_read=[template])
        from radixcache.cli.template import prove_templates

        prove_templates(template, json_file)
        return
    if not logs:
        raise ValueError("a log is needed, or --template")

    from radixcache.doctor.edits.what_if import parse_edits
    from radixcache.doctor.settings import DoctorSettings
    from radixcache.sizes import parse_capacity

    settings = DoctorSettings(
        capacity=parse_capacity(capacity),
        policy=policy,
        block_size=block_size,
        whole_blocks=whole_blocks,
        namespace_by=namespace_by,
        ttl=ttl,
        outputs=outputs,
        arrivals=arrivals.value,
        interleave=interleave,
        prefill_speed=prefill_speed,
    )
    edits = parse_edits(what_if or [])
    check_limit(limit)
    check_logs(logs, folders=True)
    check_outputs(json_file, fix, html_file, inputs=logs, also_read=[tokenizer, pricing])
    check_page(html_file, redact)
    prices = read_pricing(pricing, gpu_hour, prefill_speed, interval)

    from rich.console import Console

    from radixcache.doctor.doctor import examine
    from radixcache.doctor.log import LogSource
    from radixcache.report.doctor_json import write_diagnosis
    from radixcache.report.terminal.doctor import print_diagnosis, print_fix
    from radixcache.report.terminal.progress import ProgressBars

    errors = Console(stderr=True)
    bad_lines = BadLines(errors)
    with ProgressBars(errors) as bars:
        source = LogSource(
            logs,
            tokenizer,
            strict=strict,
            limit=limit,
            trace_block=trace_block,
            on_bad_line=bad_lines,
            notify=lambda line: errors.print(line, markup=False),
        )
        examination = examine(source, settings, edits, priced=prices is not None, on_progress=bars.update)
        bad_lines.print_rest()
        if fix is not None:
            written = examination.write_fix(fix)
        diagnosis, costs = examination.diagnosis, None
        if prices is not None:
            diagnosis, costs = prices.apply(diagnosis)
    if json_file is not None:
        write_diagnosis(diagnosis, json_file)
    if html_file is not None:
        from radixcache.report.html import diagnosis_run, write_html

        write_html([diagnosis_run(diagnosis, ", ".join(diagnosis.logs))], html_file, redact=redact)
        if redact:
            errors.print(
                "The page is redacted; what is printed here and other files are not.", soft_wrap=True
            )
    print_diagnosis(diagnosis, Console())
    if costs is not None:
        from radixcache.report.terminal.pricing import print_pricing

        print_pricing(costs, Console())
    if fix is not None:
        print_fix(written, fix, Console())
