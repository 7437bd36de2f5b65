"""A replay's report for the terminal. All text that came from a log goes through `visible`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from rich import box
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from radixcache.replay.results import DifferingRequest, ReplayReport, RequestRecord, RunSummary
from radixcache.report.equality import broken_promise, outcome, promise, verdict_of
from radixcache.report.terminal.tables import first_that_fits
from radixcache.report.text import number_of, ratio, seconds, visible

__all__ = ["print_report"]

_MEANINGS = {
    "never_seen": "no earlier prompt began like this",
    "diverged": "an earlier prompt went on differently",
    "evicted": "cached once, then made room for others",
    "partial_block": "too small a part of a block to keep",
    "other_namespace": "known, but only in another namespace",
    "not_yet_computed": "another request was still computing it",
    "last_token": "a full hit computes its last token again",
    "cache_off": "the cache was off for this request",
    "load_declined": "a lower tier had it; cheaper to compute",
    "load_failed": "loading it from a lower tier failed",
    "load_late": "loading it from a lower tier took too long",
}
_BAR_WIDTH = 20
_WORST = 5


def print_report(report: ReplayReport, records: Sequence[RequestRecord], console: Console) -> None:
    """Print the headline, the runs side by side, where the misses came from, and who missed most."""
    last = report.runs[-1]
    console.print(_headline(report))
    console.print(_runs(report))
    if last.cache == "on":
        console.print(first_that_fits(console, [partial(_misses, last, columns) for columns in (5, 4, 3)]))
        worst = _worst(records, report)
        if worst is not None:
            console.print(worst)
    for table in (_refused(records, report), _differing(report)):
        if table is not None:
            console.print(table)


def _table(title: str, style: str = "bold") -> Table:
    return Table(
        title=title, title_justify="left", title_style=style, header_style="bold", box=box.SIMPLE_HEAD
    )


def _headline(report: ReplayReport) -> Panel:
    last = report.runs[-1]
    lines: list[Text] = []
    if last.cache == "on":
        counts = f"{last.cached_tokens:,} of {last.prompt_tokens:,} prompt tokens reused"
        lines.append(_line("Hit rate", f"{last.hit_rate:.1%}", counts))
    if len(report.runs) == 2:
        off, on = report.runs
        lines.append(_change("TTFT p50", off.ttft_s.p50, on.ttft_s.p50))
        lines.append(_change("Total time", off.wall_s, on.wall_s))
        lines.append(_outputs(report))
    else:
        lines.append(_line("TTFT p50", seconds(last.ttft_s.p50), ""))
        lines.append(_line("Total time", seconds(last.wall_s), ""))
    lines += [Text(""), Text(promise(report))]
    loud = broken_promise(report)
    if loud:
        lines.append(Text(loud, style="bold red"))
    facts = [
        number_of(report.requests, "request"),
        number_of(report.sessions, "session"),
        visible(report.model),
        f"{visible(report.dtype)} on {visible(report.device)}",
        f"blocks of {report.block_size}",
    ]
    if report.kv_dtype != "auto":
        facts.append(f"keys and values as {visible(report.kv_dtype)}")
    if report.bad_lines:
        facts.append(f"{number_of(report.bad_lines, 'bad line')} skipped")
    return Panel(
        Group(*lines, Text(""), Text(" · ".join(facts), style="dim")),
        title=Text("radixcache replay", style="bold"),
        title_align="left",
        border_style="cyan",
        padding=(1, 2),
    )


def _line(name: str, value: str, remark: str, style: str = "bold green") -> Text:
    return Text.assemble((f"{name:<12}", "dim"), (value, style), ("  " if remark else "") + remark)


def _change(name: str, off: float | None, on: float | None) -> Text:
    times = ratio(off, on)
    return Text.assemble(
        (f"{name:<12}", "dim"),
        seconds(off),
        (" → ", "dim"),
        (seconds(on), "bold"),
        ("  " + times if times else "", "bold green" if off and on and on < off else "bold yellow"),
    )


def _outputs(report: ReplayReport) -> Text:
    if report.identical_outputs:
        return _line("Outputs", "identical", outcome(report))
    rounding = all(request.verdict == "rounding" for request in report.differing_requests)
    return _line("Outputs", "different", outcome(report), "bold yellow" if rounding else "bold red")


def _runs(report: ReplayReport) -> Table:
    table = _table("Runs")
    table.add_column("")
    for run in report.runs:
        table.add_column(f"cache {visible(run.cache)}", justify="right", no_wrap=True)
    both = len(report.runs) == 2
    if both:
        table.add_column("off / on", justify="right", style="green", no_wrap=True)
    for name, values, change in _rows(report.runs):
        table.add_row(name, *values, *([change] if both else []))
    return table


def _rows(runs: Sequence[RunSummary]) -> list[tuple[str, list[str], str]]:
    def counted(name: str, values: Sequence[int], compared: bool = False) -> tuple[str, list[str], str]:
        return name, [f"{v:,}" for v in values], ratio(values[0], values[-1]) if compared else ""

    def timed(name: str, values: Sequence[float | None]) -> tuple[str, list[str], str]:
        return name, [seconds(v) for v in values], ratio(values[0], values[-1])

    rows = [
        counted("requests answered", [r.requests for r in runs]),
        counted("prompt tokens", [r.prompt_tokens for r in runs]),
        counted("cached tokens", [r.cached_tokens for r in runs]),
        ("hit rate", [f"{r.hit_rate:.1%}" for r in runs], ""),
        counted("prefill tokens computed", [r.prefill_tokens for r in runs], compared=True),
        counted("decode tokens computed", [r.decode_tokens for r in runs]),
        timed("TTFT p50", [r.ttft_s.p50 for r in runs]),
        timed("TTFT p90", [r.ttft_s.p90 for r in runs]),
        timed("TTFT p99", [r.ttft_s.p99 for r in runs]),
        timed("total time", [r.wall_s for r in runs]),
        ("wasted room in blocks", [f"{r.block_waste:.1%}" for r in runs], ""),
        ("control plane's share", [f"{r.control_share:.2%}" for r in runs], ""),
    ]
    if any(r.refused for r in runs):
        rows.insert(1, counted("requests refused", [r.refused for r in runs]))
    if any(r.preemptions for r in runs):
        rows.append(counted("preemptions", [r.preemptions for r in runs]))
    return rows


def _misses(run: RunSummary, columns: int) -> Table:
    """With a bar and the meaning of each reason, or with the first `columns` columns of that."""
    table = _table("Where prompt tokens went")
    for column in ("", "tokens", "share", "", "")[:columns]:
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    rows = [("reused", run.cached_tokens, "from the cache", "green")]
    rows += [(r, n, _MEANINGS.get(r, ""), "yellow") for r, n in run.missed_tokens.items() if n]
    for name, tokens, meaning, style in rows:
        share = tokens / run.prompt_tokens if run.prompt_tokens else 0.0
        label = visible(name.replace("_", " "))
        cells: list[str | Text] = [
            label,
            f"{tokens:,}",
            f"{share:.1%}",
            _bar(share, style),
            Text(meaning, style="dim"),
        ]
        table.add_row(*cells[:columns])
    return table


def _bar(share: float, style: str) -> Text:
    filled = min(_BAR_WIDTH, max(1, round(share * _BAR_WIDTH)) if share > 0 else 0)
    return Text.assemble(("█" * filled, style), ("░" * (_BAR_WIDTH - filled), "dim"))


def _worst(records: Sequence[RequestRecord], report: ReplayReport) -> Table | None:
    missed = [r for r in records if r.run == "on" and r.error is None and r.prompt_tokens > r.cached_tokens]
    if not missed:
        return None
    missed.sort(key=lambda r: r.cached_tokens - r.prompt_tokens)
    table = _table("Most tokens missed")
    for column in ("line", "session", "prompt", "cached", "TTFT", "missed because"):
        text = column in ("session", "missed because")
        table.add_column(
            column, justify="left" if text else "right", no_wrap=not text, overflow="fold", min_width=4
        )
    for record in missed[:_WORST]:
        table.add_row(
            _place(record, report),
            Text(visible(record.session or "-", 20)),
            f"{record.prompt_tokens:,}",
            f"{record.cached_tokens:,}",
            seconds(record.ttft_s),
            Text(_why(record)),
        )
    return table


def _why(record: RequestRecord) -> str:
    parts = []
    for reason, tokens in sorted(record.misses.items(), key=lambda item: -item[1]):
        where = (
            f" at {record.diverged_at:,}" if reason == "diverged" and record.diverged_at is not None else ""
        )
        parts.append(f"{visible(reason).replace('_', ' ')}{where}: {tokens:,}")
    return ", ".join(parts)


def _place(request: RequestRecord | DifferingRequest, report: ReplayReport) -> Text:
    """Where a request stands; the log's name is only of use if there are several."""
    name = "" if len(report.logs) == 1 else f"{visible(request.source.rsplit('/', 1)[-1], 20)}:"
    return Text(f"{name}{request.line}", no_wrap=True)


def _refused(records: Sequence[RequestRecord], report: ReplayReport) -> Table | None:
    run = report.runs[-1].cache
    refused = [record for record in records if record.error is not None and record.run == run]
    if not refused:
        return None
    table = _table(f"Refused requests ({len(refused):,})", style="bold red")
    table.add_column("line")
    table.add_column("reason")
    for record in refused[:_WORST]:
        table.add_row(_place(record, report), Text(visible(record.error or "", 160)))
    return table


def _differing(report: ReplayReport) -> Table | None:
    if not report.differing_requests:
        return None
    table = Table(
        title="Different outputs", title_justify="left", title_style="bold red", header_style="bold"
    )
    for column in ("line", "from token", "cache off", "cache on", "verdict"):
        table.add_column(column)
    wrong_first = sorted(report.differing_requests, key=lambda request: request.verdict != "wrong")
    for request in wrong_first[:_WORST]:
        table.add_row(
            _place(request, report),
            str(request.token),
            " ".join(map(str, request.off)) or "(end)",
            " ".join(map(str, request.on)) or "(end)",
            verdict_of(request),
        )
    return table
