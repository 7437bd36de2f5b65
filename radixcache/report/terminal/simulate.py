"""A simulation's results for the terminal: a table a block size, a row a capacity, a column a policy."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich import box
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from radixcache.report.text import amount, number_of, visible
from radixcache.simulate.results import CLAIRVOYANT, SimulateReport, SimulateResult

__all__ = ["print_simulations"]

_BAR_WIDTH = 8
_ENDS = ("lru", CLAIRVOYANT)
_BARS_UP_TO = 4
_EIGHTHS = " ▏▎▍▌▋▊▉"


def print_simulations(report: SimulateReport, console: Console) -> None:
    """Print what was simulated, and hit rates by capacity and policy."""
    console.print(_headline(report))
    for size in dict.fromkeys(result.block_size for result in report.results):
        console.print(_table(report, [r for r in report.results if r.block_size == size]))
    for note in _notes(report):
        console.print(note)


def _headline(report: SimulateReport) -> Panel:
    known = "tokens" if report.unit_tokens == 1 else f"hashes of {report.unit_tokens} tokens"
    lines = [
        _line("Log", number_of(report.requests, "request"), f"of {number_of(report.sessions, 'session')}"),
        _line("Prompts", f"{report.prompt_tokens:,} tokens", f"known by {known}"),
    ]
    facts = []
    if report.tokenizer is not None:
        facts.append(f"tokenizer {visible(report.tokenizer)}")
    if report.arrivals == "timestamps":
        facts.append(
            f"by timestamp at {report.speed:g}x, prefill {report.prefill_speed:,.0f} and decode "
            f"{report.decode_speed:,.0f} tokens a second"
        )
    if report.repeat > 1:
        facts.append(f"{report.repeat} times over")
    if report.interleave is not None:
        facts.append(f"{report.interleave} sessions in turns")
    if report.outputs:
        facts.append("answers cached")
    if report.bad_lines:
        facts.append(f"{number_of(report.bad_lines, 'bad line')} skipped")
    if facts:
        lines += [Text(""), Text(" · ".join(facts), style="dim")]
    return Panel(
        Group(*lines),
        title=Text("radixcache simulate", style="bold"),
        title_align="left",
        border_style="cyan",
        padding=(1, 2),
    )


def _line(name: str, value: str, remark: str) -> Text:
    return Text.assemble((f"{name:<10}", "dim"), (value, "bold green"), "  " + remark)


def _table(report: SimulateReport, results: Sequence[SimulateResult]) -> Table:
    policies = list(dict.fromkeys(result.policy for result in results))
    table = Table(
        title=f"Hit rate, blocks of {results[0].block_size:,} tokens",
        title_justify="left",
        title_style="bold",
        header_style="bold",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("blocks", justify="right")
    table.add_column("tokens", justify="right", style="dim")
    table.add_column("")
    for policy in policies:
        table.add_column(visible(policy), justify="left", no_wrap=True)
    bars = len(policies) <= _BARS_UP_TO
    for capacity in dict.fromkeys(result.capacity_blocks for result in results):
        row = {r.policy: r for r in results if r.capacity_blocks == capacity}
        blocks = "unbounded" if capacity is None else f"{capacity:,}"
        tokens = "" if capacity is None else amount(capacity * results[0].block_size)
        if not report.whole_blocks:
            rates = {name: r.hit_rate for name, r in row.items() if name != CLAIRVOYANT}
            cells = [_cell(rates.get(name), rates.values(), bars) for name in policies]
            table.add_row(blocks, tokens, Text("as served", style="dim"), *cells)
            blocks = tokens = ""
        rates = {name: r.hit_rate_whole_blocks for name, r in row.items()}
        real = [rate for name, rate in rates.items() if name != CLAIRVOYANT]
        cells = [_cell(rates[name], real, bars, row[name]) for name in policies]
        table.add_row(
            blocks, tokens, Text("whole blocks", style="dim"), *cells, end_section=not report.whole_blocks
        )
    return table


def _cell(
    rate: float | None, rates: Collection[float], bars: bool, result: SimulateResult | None = None
) -> Text:
    if rate is None:
        return Text("")
    bound = result is not None and result.policy == CLAIRVOYANT
    best = not bound and len(rates) > 1 and rate == max(rates)
    cell = Text(f"{rate:6.2%}", style="cyan" if bound else "bold green" if best else "")
    if bars:
        cell.append(f" {_bar(rate)}", style="cyan" if bound else "green")
    if result is not None and result.gap_closed is not None and result.policy not in _ENDS:
        cell.append(
            f" {result.gap_closed:+.0%} of the gap", style="green" if result.gap_closed > 0 else "red"
        )
    return cell


def _bar(share: float) -> str:
    eighths = round(share * _BAR_WIDTH * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(_BAR_WIDTH)


def _notes(report: SimulateReport) -> list[Text]:
    notes = []
    for result in report.results:
        where = f"{visible(result.policy)}, {result.capacity_blocks or 0:,} blocks of {result.block_size:,}"
        if result.too_large:
            notes.append(f"{where}: {result.too_large:,} prompts were larger than the cache")
        if result.waited:
            notes.append(f"{where}: {number_of(result.waited, 'request')} waited for room")
    if any(r.gap_closed is not None and r.policy not in _ENDS for r in report.results):
        notes.append("The gap is what clairvoyant eviction reuses beyond LRU, counted by whole blocks.")
    return [Text(note, style="dim") for note in notes]
