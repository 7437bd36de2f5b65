"""Hit-rate curves for the terminal: drawn, with knee and bound, and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from radixcache.curve.results import CurvePoint, CurveReport, CurveSummary
from radixcache.report.terminal.chart import Mark, Series, draw_chart, is_plain
from radixcache.report.terminal.tables import first_that_fits
from radixcache.report.text import amount, gigabytes, percent, visible

__all__ = ["print_curves"]

_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")
_LETTERS = "abcdef"
_WIDEST = 100
_FLAT = 0.05
_LEFT_OUT = ((), ("gap",), ("gap", "requests"), ("gap", "requests", "tokens"))
"""Columns that a narrow terminal goes without, one more in each step."""


def print_curves(report: CurveReport, console: Console) -> None:
    """Print one curve with all its figures, or several in one chart and a row each."""
    if len(report.curves) == 1:
        _print_one(report, report.curves[0], console)
    else:
        _print_several(report, console)


def _print_one(report: CurveReport, curve: CurveSummary, console: Console) -> None:
    points = list(report.points)
    console.print(_title(report, f"blocks of {curve.block_size:,} tokens"), soft_wrap=True)
    if not curve.saturation_blocks:
        console.print(Text("No prompt begins with a whole block of an earlier one: nothing can be reused."))
        return
    rate = f"{curve.unbounded_hit_rate:.1%}"
    counts = f"{curve.unbounded_cached_tokens:,} of {curve.prompt_tokens:,} prompt tokens"
    reached = f"with {curve.saturation_blocks:,} blocks"
    console.print(Text.assemble("At most ", (rate, "bold green"), f": {counts}, {reached}."), soft_wrap=True)
    console.print()
    lines = [Series([(p.capacity_blocks, p.hit_rate) for p in points], "bold cyan")]
    best = [(p.capacity_blocks, p.clairvoyant_hit_rate) for p in points if p.clairvoyant_hit_rate is not None]
    if best:
        lines.insert(0, Series(best, "green", dotted=True))
    marks = [Mark(p.capacity_blocks, p.hit_rate) for p in points if p.capacity_blocks == curve.knee_blocks]
    top = max(curve.unbounded_hit_rate, *(y for _, y in best)) if best else curve.unbounded_hit_rate
    _print_chart(lines, marks, (_left(points), curve.saturation_blocks), top, console)
    legend = Text.assemble(
        "      hit rate by capacity in blocks   ", ("-- LRU" if is_plain(console) else "── LRU", "bold cyan")
    )
    if best:
        legend.append_text(
            Text.assemble("   ", (". . clairvoyant" if is_plain(console) else "· · clairvoyant", "green"))
        )
    if marks:
        legend.append_text(Text.assemble("   ", ("o knee", "bold yellow")))
    console.print(legend, soft_wrap=True)
    forms = [partial(_capacities, report, curve, points, without) for without in _LEFT_OUT]
    console.print(first_that_fits(console, forms))
    _print_notes(report, console, knee=curve.knee_blocks is not None, best=bool(best))


def _print_several(report: CurveReport, console: Console) -> None:
    what = "namespace" if report.by else "block size"
    console.print(_title(report, f"a curve for each {what}"), soft_wrap=True)
    groups = [
        (
            curve,
            [p for p in report.points if (p.namespace, p.block_size) == (curve.namespace, curve.block_size)],
        )
        for curve in report.curves
    ]
    drawn = sorted((g for g in groups if g[0].saturation_blocks), key=lambda g: -g[0].prompt_tokens)
    drawn = drawn[: len(_LETTERS)]
    letters = {id(curve): letter for (curve, _), letter in zip(drawn, _LETTERS, strict=False)}
    if drawn:
        lines, marks = [], []
        for (curve, points), colour, letter in zip(drawn, _COLOURS, _LETTERS, strict=False):
            lines.append(Series([(p.capacity_tokens, p.hit_rate) for p in points], colour))
            shown = curve.saturation_blocks if curve.knee_blocks is None else curve.knee_blocks
            at = next(p for p in points if p.capacity_blocks == shown)
            marks.append(Mark(at.capacity_tokens, at.hit_rate, letter, f"bold {colour}"))
        left = min(_left(points) * curve.block_size for curve, points in drawn)
        right = max(curve.saturation_blocks * curve.block_size for curve, _ in drawn)
        _print_chart(lines, marks, (left, right), max(c.unbounded_hit_rate for c, _ in drawn), console)
        legend = "      LRU hit rate by capacity in tokens; letters stand at knees, else at ends"
        console.print(Text(legend, "dim"), soft_wrap=True)
    forms = [partial(_summaries, report, groups, letters, without) for without in _LEFT_OUT]
    console.print(first_that_fits(console, forms))
    _print_notes(report, console, knee=True, best=False)


def _key(of: CurveSummary | CurvePoint) -> tuple[str | None, int]:
    return of.namespace, of.block_size


def _title(report: CurveReport, what: str) -> Text:
    names = ", ".join(visible(name.rsplit("/", 1)[-1], 40) for name in report.logs[:3])
    more = f" and {len(report.logs) - 3} more" if len(report.logs) > 3 else ""
    return Text.assemble(("Hit rate by cache size", "bold"), f"  {names}{more}, {what}")


def _left(points: Sequence[CurvePoint]) -> int:
    """Where the drawing begins: the last power of ten by which next to nothing has happened."""
    bottom, top = points[0].hit_rate, points[-1].hit_rate
    flat = [p.capacity_blocks for p in points if p.hit_rate <= bottom + _FLAT * (top - bottom)]
    return int(10 ** (len(str(flat[-1] if flat else 1)) - 1))


def _print_chart(
    lines: Sequence[Series], marks: Sequence[Mark], x_range: tuple[int, int], top: float, console: Console
) -> None:
    left, right = x_range
    if right <= left:
        left = max(1, right // 10)
    chart = draw_chart(
        lines,
        x_range=(left, max(right, left + 1)),
        y_top=top,
        marks=marks,
        width=min(console.width, _WIDEST) - 1,
        ascii_only=is_plain(console),
    )
    console.print(chart, soft_wrap=True)


def _capacities(
    report: CurveReport, curve: CurveSummary, points: Sequence[CurvePoint], without: Sequence[str]
) -> Table:
    rows = [p for p in points if p.capacity_blocks in curve.table_blocks]
    weighed = report.bytes_per_token is not None
    best = any(p.clairvoyant_hit_rate is not None for p in rows)
    names = ["blocks", "tokens", *(["GB"] if weighed else []), "hit rate"]
    names += ["+/-"] if report.sample is not None else []
    names += ["clairvoyant", "gap"] if best else []
    shown = [name for name in names if name not in without]
    table = _table(*shown)
    table.add_column("", no_wrap=True)
    for p in rows:
        bound = p.clairvoyant_hit_rate
        cells = {
            "blocks": f"{p.capacity_blocks:,}",
            "tokens": f"{p.capacity_tokens:,}",
            "GB": gigabytes(p.capacity_bytes),
            "hit rate": f"{p.hit_rate:.2%}",
            "+/-": f"{2 * p.standard_error:.2%}",
            "clairvoyant": "" if bound is None else f"{bound:.2%}",
            "gap": "" if bound is None else percent(bound - p.hit_rate, 2),
        }
        is_knee = p.capacity_blocks == curve.knee_blocks
        note = "knee" if is_knee else "all" if p.capacity_blocks == curve.saturation_blocks else ""
        table.add_row(*(cells[name] for name in shown), note, style="bold yellow" if is_knee else "")
    return table


def _summaries(
    report: CurveReport,
    groups: Sequence[tuple[CurveSummary, Sequence[CurvePoint]]],
    letters: dict[int, str],
    without: Sequence[str],
) -> Table:
    weighed = report.bytes_per_token is not None
    several = len({curve.block_size for curve, _ in groups}) > 1
    names = [*(["block"] if several else []), "requests", "tokens", "at most", "with", "knee"]
    names += [*(["GB"] if weighed else []), "there"]
    shown = [name for name in names if name not in without]
    table = _table("namespace" if report.by else "", *shown)
    table.columns[0].justify = "left"
    for curve, points in groups:
        knee = next((p for p in points if p.capacity_blocks == curve.knee_blocks), None)
        letter = letters.get(id(curve), " ")
        name = f"{letter} {visible(curve.namespace or '-', 24)}" if report.by else letter
        cells = {
            "block": f"{curve.block_size:,}",
            "requests": f"{curve.requests:,}",
            "tokens": amount(curve.prompt_tokens),
            "at most": f"{curve.unbounded_hit_rate:.2%}",
            "with": amount(curve.saturation_blocks * curve.block_size),
            "knee": "-" if knee is None else amount(knee.capacity_tokens),
            "GB": "-" if knee is None else gigabytes(knee.capacity_bytes),
            "there": "-" if knee is None else f"{knee.hit_rate:.2%}",
        }
        table.add_row(Text(name), *(cells[name] for name in shown))
    if report.by and not several:
        table.add_section()
        prompt = sum(curve.prompt_tokens for curve, _ in groups)
        cached = sum(curve.unbounded_cached_tokens for curve, _ in groups)
        total = {
            "requests": f"{report.requests:,}",
            "tokens": amount(prompt),
            "at most": f"{cached / prompt:.2%}" if prompt else "-",
        }
        table.add_row("  all", *(total.get(name, "") for name in shown), style="bold")
    return table


def _table(*names: str) -> Table:
    table = Table(header_style="bold", box=box.SIMPLE_HEAD)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _print_notes(report: CurveReport, console: Console, *, knee: bool, best: bool) -> None:
    notes = ["Prompts only, whole blocks only, one request after another."]
    if knee:
        notes.append("Knee: farthest above the line from one block to all, on a logarithmic axis.")
    if best:
        notes.append("Clairvoyant: the most any policy could reuse if it knew all requests to come.")
    if report.sample is not None:
        notes.append(f"Estimated from {report.sample:g} of the blocks, +/- two standard errors.")
    if report.model is not None and report.bytes_per_token is not None:
        notes.append(
            f"GB (10^9 bytes): {report.bytes_per_token:,} bytes a token for {visible(report.model)}."
        )
    console.print(Text("\n".join(notes), "dim"), soft_wrap=True)
