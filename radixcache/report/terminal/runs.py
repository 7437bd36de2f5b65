"""Reports that were read back, on the terminal, as the commands that made them print them."""

from __future__ import annotations

from rich.console import Console

from radixcache.report.html.read import Run
from radixcache.report.html.records import RequestLog

__all__ = ["print_run"]


def print_run(run: Run, log: RequestLog, console: Console) -> None:
    """Print a report; `log` has the records of single requests, for those that show some."""
    if run.kind == "replay":
        from radixcache.report.terminal.replay import print_report

        print_report(run.report, log.replayed, console)
    elif run.kind == "simulate":
        from radixcache.report.terminal.simulate import print_simulations

        print_simulations(run.report, console)
    elif run.kind == "curve":
        from radixcache.report.terminal.curve import print_curves

        print_curves(run.report, console)
    else:
        from radixcache.report.terminal.doctor import print_diagnosis

        print_diagnosis(run.report, console)
        if run.report.pricing is not None:
            from radixcache.report.terminal.pricing import print_pricing

            print_pricing(run.report.pricing, console)
