"""`radixcache report`: what other commands wrote as JSON, as one HTML page or on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from radixcache.cli.logs import check_logs
from radixcache.cli.outputs import HtmlOption, check_outputs, report_console

__all__ = ["RedactOption", "check_page", "report_command"]

RedactOption = Annotated[
    bool,
    typer.Option("--redact", help="In the page show lengths and digests in place of texts from the logs."),
]


def check_page(html_file: Path | None, redact: bool) -> None:
    """Refuse, with ValueError, a redaction of nothing."""
    if redact and html_file is None:
        raise ValueError("--redact is for the page: --html is needed, too")


def report_command(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN.json",
            help="What --json of replay, simulate, curve or doctor wrote.",
            show_default=False,
        ),
    ],
    requests: Annotated[
        list[str] | None,
        typer.Option(
            "--requests",
            metavar="FILE.jsonl",
            help="What --requests-out of replay or simulate wrote; may be given several times.",
            show_default=False,
        ),
    ] = None,
    html_file: HtmlOption = None,
    redact: RedactOption = False,
) -> None:
    """Show what other commands found: as one HTML page with --html, else on the terminal.

    Examples:

      radixcache report run.json

      radixcache report replay.json doctor.json --requests requests.jsonl --html page.html
    """
    inputs = [*runs, *(requests or ())]
    check_logs(inputs)
    check_outputs(html_file, inputs=inputs)
    check_page(html_file, redact)

    from radixcache.report.html.read import read_run
    from radixcache.report.html.records import read_requests

    read = [read_run(Path(path)) for path in runs]
    log = read_requests([Path(path) for path in requests or ()])
    if html_file is not None:
        from radixcache.report.html import write_html

        write_html(read, html_file, log=log, redact=redact)
        return
    from radixcache.report.terminal.runs import print_run

    console = report_console()
    for run in read:
        print_run(run, log, console)
