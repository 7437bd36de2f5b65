"""A simulation's results for the terminal: a table a block size, a row a capacity, a column a policy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

from rich import box
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from radixcache.report.terminal.tables import first_that_fits, fits
from radixcache.report.text import amount, number_of, visible
from radixcache.simulate.results import CLAIRVOYANT, SimulateReport, SimulateResult

__all__ = ["print_simulations"]

_BAR_WIDTH = 8
_ENDS = ("lru", CLAIRVOYANT)
_BARS_UP_TO = 4
_NOTES_UP_TO = 2
_EIGHTHS = " ▏▎▍▌▋▊▉"


def print_simulations(report: SimulateReport, console: Console) -> None:
    """Print what was simulated, and hit rates by capacity and policy."""
    console.print(_headline(report))
    for size in dict.fromkeys(result.block_size for result in report.results):
        for table in _tables(report, [r for r in report.results if r.block_size == size], console):
            console.print(table)
    for note in _notes(report):
        console.print(note)


def _headline(report: SimulateReport) -> Panel:
    known = "exact token ids" if report.unit_tokens == 1 else f"hashes of {report.unit_tokens} tokens"
    lines = [
        _line("Log", number_of(report.requests, "request"), f"of {number_of(report.sessions, 'session')}"),
        _line("Prompts", f"{report.prompt_tokens:,} tokens", f"({known})"),
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


@dataclass(frozen=True, slots=True)
class _Form:
    """What a table shows beside the hit rates."""

    bars: bool
    gap: str | None
    tokens: bool


_FORMS = (
    _Form(bars=True, gap=" of the gap", tokens=True),
    _Form(bars=False, gap=" of the gap", tokens=True),
    _Form(bars=False, gap="", tokens=True),
    _Form(bars=False, gap=None, tokens=True),
    _Form(bars=False, gap=None, tokens=False),
)


def _tables(report: SimulateReport, results: Sequence[SimulateResult], console: Console) -> list[Table]:
    """One table in the richest form that fits; several of fewer policies each if none does."""
    policies = list(dict.fromkeys(result.policy for result in results))
    forms = _FORMS if len(policies) <= _BARS_UP_TO else _FORMS[1:]
    table = first_that_fits(console, [partial(_table, report, results, policies, form) for form in forms])
    if fits(table, console) or len(policies) == 1:
        return [table]
    found, rest = [], policies
    while rest:
        share = next(
            n
            for n in range(len(rest), 0, -1)
            if n == 1 or fits(_table(report, results, rest[:n], _FORMS[-1]), console)
        )
        found.append(_table(report, results, rest[:share], _FORMS[-1]))
        rest = rest[share:]
    return found


def _table(
    report: SimulateReport, results: Sequence[SimulateResult], policies: Sequence[str], form: _Form
) -> Table:
    table = Table(
        title=f"Hit rate, blocks of {results[0].block_size:,} tokens",
        title_justify="left",
        title_style="bold",
        header_style="bold",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("blocks", justify="right", no_wrap=True)
    if form.tokens:
        table.add_column("tokens", justify="right", style="dim", no_wrap=True)
    table.add_column("", no_wrap=True)
    for policy in policies:
        table.add_column(visible(policy), justify="left", no_wrap=True)
    for capacity in dict.fromkeys(result.capacity_blocks for result in results):
        row = {r.policy: r for r in results if r.capacity_blocks == capacity}
        tokens = "" if capacity is None else amount(capacity * results[0].block_size)
        head = ["unbounded" if capacity is None else f"{capacity:,}", *([tokens] if form.tokens else [])]
        if not report.whole_blocks:
            rates = {name: r.hit_rate for name, r in row.items() if name != CLAIRVOYANT}
            cells = [_cell(rates.get(name), rates.values(), form) for name in policies]
            table.add_row(*head, Text("as served", style="dim"), *cells)
            head = [""] * len(head)
        rates = {name: r.hit_rate_whole_blocks for name, r in row.items()}
        real = [rate for name, rate in rates.items() if name != CLAIRVOYANT]
        cells = [_cell(rates.get(name), real, form, row.get(name)) for name in policies]
        table.add_row(*head, Text("whole blocks", style="dim"), *cells, end_section=not report.whole_blocks)
    return table


def _cell(
    rate: float | None, rates: Collection[float], form: _Form, result: SimulateResult | None = None
) -> Text:
    if rate is None:
        return Text("")
    bound = result is not None and result.policy == CLAIRVOYANT
    best = not bound and len(rates) > 1 and rate == max(rates)
    cell = Text(f"{rate:6.2%}", style="cyan" if bound else "bold green" if best else "")
    if form.bars:
        cell.append(f" {_bar(rate)}", style="cyan" if bound else "green")
    gap = None if result is None or result.policy in _ENDS else result.gap_closed
    if gap is not None and form.gap is not None:
        cell.append(f" {round(gap, 2) + 0.0:+.0%}{form.gap}", style="green" if gap > 0 else "red")
    return cell


def _bar(share: float) -> str:
    eighths = round(share * _BAR_WIDTH * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(_BAR_WIDTH)


def _notes(report: SimulateReport) -> list[Text]:
    notes = [
        *_counts(
            report, lambda r: r.too_large, "prompt", "was larger than the cache", "were larger than the cache"
        ),
        *_counts(report, lambda r: r.waited, "request", "waited for room", "waited for room"),
    ]
    if any(r.gap_closed is not None and r.policy not in _ENDS for r in report.results):
        notes.append("The gap is what clairvoyant eviction reuses beyond LRU, counted by whole blocks.")
    return [Text(note, style="dim") for note in notes]


def _counts(
    report: SimulateReport, count: Callable[[SimulateResult], int], thing: str, one: str, many: str
) -> list[str]:
    """A line for something that was counted in some caches; where that is in many, one line for all."""
    policies: dict[tuple[str, int], list[str]] = {}
    for result in report.results:
        if number := count(result):
            cache = f"{result.capacity_blocks or 0:,} blocks of {result.block_size:,}"
            policies.setdefault((cache, number), []).append(visible(result.policy))
    if len(policies) <= _NOTES_UP_TO:
        return [
            f"{', '.join(names)}, {cache}: {number_of(number, thing)} {one if number == 1 else many}"
            for (cache, number), names in policies.items()
        ]
    most: dict[str, int] = {}
    for cache, number in policies:
        most[cache] = max(number, most.get(cache, 0))
    caches = ", ".join(f"up to {number:,} in {cache}" for cache, number in most.items())
    return [f"{thing.capitalize()}s that {many}: {caches}"]
