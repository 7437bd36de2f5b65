"""What a log costs, for the terminal. Names and notes come from price files and go through `visible`."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from radixcache.pricing import PricedProvider, PricingReport
from radixcache.report.text import percent, visible

__all__ = ["money", "print_pricing"]

_LONG = 400
_WIDE = 72


def print_pricing(report: PricingReport, console: Console) -> None:
    """Print a row a price table, what self-hosting costs, and what was assumed."""
    if report.providers:
        console.print(_table(report, console.width))
    if report.self_hosted is not None:
        console.print(_self_hosted(report))
    for provider in report.providers:
        console.print(_rules(provider), soft_wrap=True)
    console.print()
    for line in report.assumptions:
        console.print(Text(visible(line, _LONG), style="dim"), soft_wrap=True)


def money(amount: float, currency: str) -> str:
    """An amount with enough digits to see it: `$1,234`, `$12.35`, `$0.0123`, `4.50 EUR`."""
    size = abs(amount)
    digits = 0 if size >= 999.5 else 2 if size >= 0.995 or not size else 4
    shown = f"{size:,.{digits}f}"
    sign = "-" if amount < 0 and any(digit in shown for digit in "123456789") else ""
    if currency == "USD":
        return f"{sign}${shown}"
    return f"{sign}{shown} {visible(currency, 8)}"


def _table(report: PricingReport, width: int) -> Table:
    table = Table(
        title="What this log costs",
        title_justify="left",
        title_style="bold",
        header_style="bold",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("prices", overflow="fold")
    for name in ("uncached", "cached", "saved"):
        table.add_column(name, justify="right", no_wrap=True)
    shares = ("read", "written") if width >= _WIDE else ()
    for name in shares:
        table.add_column(name, justify="right", style="dim", no_wrap=True)
    for provider in report.providers:
        table.add_row(*_row(provider, report)[: len(table.columns)])
    return table


def _row(provider: PricedProvider, report: PricingReport) -> list[str | Text]:
    saved = round(provider.saved_share, 3)
    style = "bold green" if saved > 0 else "red" if saved < 0 else ""
    return [
        Text(visible(provider.name)),
        money(provider.uncached, report.currency),
        money(provider.cost, report.currency),
        Text(percent(provider.saved_share), style=style),
        _share(provider.cached_tokens, report.prompt_tokens),
        _share(provider.written_tokens, report.prompt_tokens),
    ]


def _rules(provider: PricedProvider) -> Text:
    note = f" {visible(provider.note, _LONG)}" if provider.note else ""
    return Text.assemble(
        f"{visible(provider.name)}: ",
        (f"{visible(provider.rules, _LONG)}; as of {visible(provider.as_of)}.{note}", "dim"),
    )


def _share(tokens: int, of: int) -> str:
    return f"{tokens / of:.1%}" if of else "-"


def _self_hosted(report: PricingReport) -> Text:
    own = report.self_hosted
    assert own is not None
    return Text.assemble(
        ("Self-hosted prefill  ", "bold"),
        money(own.uncached, report.currency),
        (" → ", "dim"),
        (money(own.cost, report.currency), "bold green"),
        f"  saved {percent(own.saved_share)}, at {money(own.gpu_hour, report.currency)} an hour and "
        f"{own.prefill_speed:,.0f} tokens a second",
    )
