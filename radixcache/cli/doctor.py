"""`radixcache doctor`: why a log missed, and what would undo it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
    TraceBlockOption,
    check_logs,
)
from radixcache.cli.options import (
    POLICIES,
    Arrivals,
    ArrivalsOption,
    BlockSizeOption,
    CapacityOption,
    InterleaveOption,
    NamespaceByOption,
    OutputsOption,
    WholeBlocksOption,
    positive,
)
from radixcache.cli.outputs import (
    FixOption,
    HtmlOption,
    JsonOption,
    check_outputs,
    deliver,
    report_console,
)
from radixcache.cli.pricing import GpuHourOption, IntervalOption, PricingOption, read_pricing
from radixcache.cli.report import RedactOption, check_page

__all__ = ["doctor_command"]


def doctor_command(
    logs: OptionalLogsArgument = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DIR",
            help="Model whose tokenizer and chat template to use for text in the log (default: the embedded "
            "model). Token ids are shown as text only if it is named.",
            show_default=False,
        ),
    ] = None,
    capacity: CapacityOption = "unbounded",
    policy: Annotated[str, typer.Option(metavar="NAME", help=f"Eviction policy: {POLICIES}.")] = "lru",
    block_size: BlockSizeOption = None,
    whole_blocks: WholeBlocksOption = False,
    namespace_by: NamespaceByOption = None,
    ttl: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            parser=positive("--ttl"),
            help="Time after its last use at which a prefix expires; the log must have timestamps.",
            show_default=False,
        ),
    ] = None,
    outputs: OutputsOption = False,
    arrivals: ArrivalsOption = Arrivals.CLOSED,
    interleave: InterleaveOption = None,
    what_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EDIT",
            help="Rewrite the log first: move:REGEX:end (of its message), move:REGEX:last (into the last "
            "user message), drop:REGEX, sort:tools, sort:json, sort:REGEX, squeeze:space, keep:history; or "
            "change a setting: capacity:N, policy:NAME, block-size:N, ttl:none, share:namespaces. May be "
            "given several times.",
            show_default=False,
        ),
    ] = None,
    prefill_speed: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            parser=positive("--prefill-speed"),
            help="Prompt tokens a second, to say what misses cost in time.",
            show_default=False,
        ),
    ] = None,
    pricing: PricingOption = None,
    gpu_hour: GpuHourOption = None,
    interval: IntervalOption = 10.0,
    limit: LimitOption = None,
    session_field: SessionFieldOption = None,
    time_field: TimeFieldOption = None,
    prompt_field: PromptFieldOption = None,
    time_unit: TimeUnitOption = None,
    max_line: MaxLineOption = None,
    trace_block: TraceBlockOption = 512,
    strict: StrictOption = False,
    json_file: JsonOption = None,
    html_file: HtmlOption = None,
    redact: RedactOption = False,
    fix: FixOption = None,
    template: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Instead of a log: as `radixcache template NAME|FILE`.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Why a log's prompts missed the cache, what to do about it, and what that would gain.

    Examples:

      radixcache doctor chats.jsonl --html page.html

      radixcache doctor chats.jsonl --what-if 'move:Today is .*?\\.:last' --fix better.jsonl

      radixcache doctor chats.jsonl --capacity 10k --pricing hosted
    """
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
        from radixcache.cli.template import prove_templates

        prove_templates(template, json_file)
        return
    if not logs:
        raise ValueError("a log is needed, or --template")

    from radixcache.doctor.edits.what_if import parse_edits
    from radixcache.doctor.settings import DoctorSettings
    from radixcache.sizes import parse_capacity

    settings = DoctorSettings(
        capacity=parse_capacity(capacity, "--capacity"),
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
    reading = Reading(strict, limit, session_field, time_field, prompt_field, time_unit, max_line)
    rules = reading.rules()
    check_logs(logs, folders=True)
    check_outputs(json_file, fix, html_file, inputs=logs, also_read=[tokenizer, pricing])
    check_page(html_file, redact)
    prices = read_pricing(pricing, gpu_hour, prefill_speed, interval)

    console = report_console(json_file, fix, html_file)

    from radixcache.doctor.doctor import examine
    from radixcache.doctor.log import LogSource
    from radixcache.report.doctor_json import write_diagnosis
    from radixcache.report.terminal.console import error_console
    from radixcache.report.terminal.doctor import print_diagnosis, print_fix
    from radixcache.report.terminal.pricing import print_pricing
    from radixcache.report.terminal.progress import show_progress

    errors = error_console()
    bad_lines = BadLines(errors)
    with show_progress(errors, from_start=False) as progress:
        source = LogSource(
            logs,
            tokenizer,
            strict=strict,
            limit=limit,
            trace_block=trace_block,
            rules=rules,
            on_bad_line=bad_lines,
            on_note=bad_lines.note,
            notify=errors.notify,
        )
        examination = examine(source, settings, edits, priced=prices is not None, on_progress=progress.update)
        bad_lines.print_rest()
        diagnosis, costs = examination.diagnosis, None
        if prices is not None:
            diagnosis, costs = prices.apply(diagnosis)

    def show() -> None:
        print_diagnosis(diagnosis, console)
        if costs is not None:
            print_pricing(costs, console)

    def write_page(path: Path) -> None:
        from radixcache.report.html import diagnosis_run, write_html

        write_html([diagnosis_run(diagnosis, ", ".join(diagnosis.logs))], path, redact=redact)
        if redact:
            errors.notify("The page is redacted; what is printed here and other files are not.")

    def write_fix(path: Path) -> None:
        print_fix(examination.write_fix(path), path, console)

    deliver(
        show,
        (json_file, lambda path: write_diagnosis(diagnosis, path)),
        (html_file, write_page),
        (fix, write_fix),
    )
