"""A diagnosis for the terminal: the headline, where the tokens went, and what can be done about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from radixcache.files import STDOUT
from radixcache.report.terminal.chart import is_plain
from radixcache.report.terminal.pricing import money as money_text
from radixcache.report.text import amount, number_of, seconds, visible

if TYPE_CHECKING:
    from radixcache.doctor.diagnosis.schema import Diagnosis, Example, Finding, Side
    from radixcache.doctor.doctor import Fix

__all__ = ["print_diagnosis", "print_fix"]

_BAR = 24
_WIDE = 116
_NARROW = 64
_EIGHTHS = " ▏▎▍▌▋▊▉"
_INDENT = 3
_LEAD = 28
_DIFFERS = 60
_TAIL = 40
_CAUSES = {
    "never_seen": ("never seen", "new text, nothing seen at this position", "dim"),
    "diverged": ("diverged", "an earlier prompt continues differently from here", "red"),
    "evicted": ("evicted", "was cached, then evicted", "magenta"),
    "expired": ("expired", "was cached, but its time to live was over", "magenta"),
    "partial_block": ("partial block", "computed, in a block that could not be reused", "yellow"),
    "other_namespace": ("other namespace", "computed in another namespace, which is never shared", "yellow"),
    "model_changed": ("model changed", "computed by another model or adapter", "yellow"),
    "not_yet_computed": ("not yet computed", "a running request was still computing it", "yellow"),
    "too_large": ("too large", "the prompt does not fit the cache", "red"),
    "last_token": ("last token", "the last token of a full hit is recomputed to get logits", "dim"),
}


def print_diagnosis(diagnosis: Diagnosis, console: Console) -> None:
    """Print what was found, the findings that cost most first."""
    plain = is_plain(console)
    bracketed = plain or console.color_system is None
    console.print(_headline(diagnosis, plain))
    console.print(_causes(diagnosis, plain, console.width))
    if not diagnosis.findings:
        console.print(
            Text("No avoidable misses found: prompts diverge where their questions differ.", "green")
        )
    for place, finding in enumerate(diagnosis.findings, start=1):
        console.print(_finding(place, finding, diagnosis, bracketed, console.width))
        if finding.edit is not None and finding.hit_rate_after is not None:
            # What is to be copied stays one line, however long.
            edit = Text(" " * _INDENT + _option(finding.edit.what_if), "cyan")
            console.print(edit, soft_wrap=True)
        console.print()
    if diagnosis.what_if is not None:
        _print_what_if(diagnosis.what_if, diagnosis, console)
    for note in _notes(diagnosis):
        console.print(Text(note, "dim"), soft_wrap=True)


def print_fix(fix: Fix, path: Path, console: Console) -> None:
    """Print what was done to the log that was written."""
    name = "standard output" if path == STDOUT else visible(str(path), 200)
    if not fix.edits:
        console.print(Text(f"{name}: written unchanged; no edit gains anything."), soft_wrap=True)
        return
    console.print(Text.assemble(("Written: ", "bold"), name, f", {number_of(fix.requests, 'request')}"))
    bullet = "-" if is_plain(console) else "•"
    for text, description in fix.edits:
        console.print(Text.assemble(f"  {bullet} ", visible(description, 400)), soft_wrap=True)
        console.print(Text(f"    {_option(text)}", "dim"), soft_wrap=True)
        if text in fix.unmatched:
            console.print(Text(f"    {_unmatched(fix.requests)}", "bold yellow"), soft_wrap=True)
    if fix.after is not None:
        console.print(Text.assemble("  Hit rate after: ", (f"{fix.after.hit_rate:.2%}", "bold green")))


def _headline(diagnosis: Diagnosis, plain: bool) -> Panel:
    missed = diagnosis.prompt_tokens - diagnosis.cached_tokens
    settings = diagnosis.settings
    capacity = settings["capacity_blocks"]
    room = "a cache that never evicts" if capacity is None else f"{capacity:,} blocks"
    facts = [f"{room}, blocks of {settings['block_size']:,} tokens"]
    if capacity is not None:
        facts.append(visible(settings["policy"]))
    if settings["tokenizer"] is not None:
        facts.append(f"tokenizer {visible(settings['tokenizer'])}")
    for name, words in (("namespace_by", "namespaces by {}"), ("interleave", "{} sessions in turns")):
        if settings[name] is not None:
            facts.append(words.format(visible(str(settings[name]))))
    if diagnosis.bad_lines:
        facts.append(f"{number_of(diagnosis.bad_lines, 'bad line')} skipped")
    lines = [
        Text.assemble(
            (f"{diagnosis.hit_rate:.2%}", "bold green"),
            " of the prompt tokens were reused  ",
            (_bar(diagnosis.hit_rate, plain), "green"),
        ),
        Text.assemble(
            (f"{missed:,}", "bold red"),
            f" of {diagnosis.prompt_tokens:,} had to be computed, "
            f"in {number_of(diagnosis.requests, 'request')} of {number_of(diagnosis.sessions, 'session')}",
        ),
        Text(""),
        Text((", " if plain else " · ").join(facts), "dim"),
    ]
    return Panel(
        Group(*lines),
        title=Text("radixcache doctor", style="bold"),
        title_align="left",
        border_style="cyan",
        padding=(1, 2),
    )


def _causes(diagnosis: Diagnosis, plain: bool, console_width: int) -> Table:
    missed = max(1, diagnosis.prompt_tokens - diagnosis.cached_tokens)
    wide = console_width >= _WIDE
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, expand=wide)
    table.add_column("missed because", no_wrap=True)
    table.add_column("tokens", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    if console_width >= _NARROW:
        table.add_column("", no_wrap=True)
    if wide:
        table.add_column("", style="dim", no_wrap=True, ratio=1)
    for cause, tokens in sorted(diagnosis.missed_tokens.items(), key=lambda item: -item[1]):
        if not tokens:
            continue
        name, meaning, style = _CAUSES[cause]
        share = tokens / missed
        bar = Text(_bar(share, plain), style)
        cells: list[RenderableType] = [Text(name, style), f"{tokens:,}", f"{share:.1%}", bar, meaning]
        table.add_row(*cells[: len(table.columns)])
    table.add_section()
    table.add_row("all", f"{sum(diagnosis.missed_tokens.values()):,}", style="bold")
    return table


def _finding(
    place: int, finding: Finding, diagnosis: Diagnosis, bracketed: bool, console_width: int
) -> RenderableType:
    missed = max(1, diagnosis.prompt_tokens - diagnosis.cached_tokens)
    about = "about " if finding.sampled else ""
    lines: list[RenderableType] = [
        Text.assemble(
            (f"{place}. ", "bold yellow"),
            (visible(finding.title, 200), "bold"),
        ),
        Text.assemble(
            (f"{about}{finding.tokens_lost:,}", "bold red"),
            f" tokens lost ({finding.tokens_lost / missed:.0%} of all missed)",
            f" in {number_of(finding.requests, 'request')}",
            "" if finding.prefill_s is None else f", {seconds(finding.prefill_s)} of prefill",
            "" if finding.money is None else f", {_money(finding.money)}",
        ),
    ]
    several = len(diagnosis.logs) > 1
    room = console_width - _INDENT
    lines += [_example(example, bracketed, room, several=several) for example in finding.examples[:1]]
    lines.append(Text(visible(finding.advice, 400)))
    if finding.edit is not None and finding.gain_tokens is not None and finding.hit_rate_after is not None:
        lines.append(
            Text.assemble(
                ("saves ", "dim"),
                (f"{finding.gain_tokens:,}", "bold green"),
                " prefill tokens: hit rate ",
                f"{diagnosis.hit_rate:.2%} to ",
                (f"{finding.hit_rate_after:.2%}", "bold green"),
                (", measured on the log after this edit", "dim"),
            )
        )
    return Group(lines[0], Padding(Group(*lines[1:]), (0, 0, 0, _INDENT)))


def _option(edit: str) -> str:
    """An edit as a shell takes it, never cut."""
    return f"--what-if {quote(visible(edit, len(edit)))}"


def _example(example: Example, bracketed: bool, room: int, *, several: bool) -> RenderableType:
    places = [_place(side, several=several) for side in (example.left, example.right)]
    lead = max(1, min(_LEAD, (room - max(map(len, places))) // 2))
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="dim", no_wrap=True, min_width=max(map(len, places)))
    grid.add_column(overflow="ellipsis", no_wrap=True)
    sides = ((example.left, "black on yellow"), (example.right, "black on red"))
    for place, (side, style) in zip(places, sides, strict=True):
        grid.add_row(place, _marked(side, style, bracketed, lead))
    return grid


def _place(side: Side, *, several: bool) -> str:
    name = visible(side.source.rsplit("/", 1)[-1], 24) + ", " if several else ""
    return f"{name}line {side.line:,}, token {side.token:,}"


def _marked(side: Side, style: str, bracketed: bool, lead: int) -> Text:
    differs = visible(side.differs, _DIFFERS) or " "
    before = ("…" if len(side.before) > lead else "") + visible(side.before[-lead:], 4 * lead)
    after = visible(side.after[:_TAIL], 4 * _TAIL) + ("…" if len(side.after) > _TAIL else "")
    marked = f"[{differs}]" if bracketed else differs
    return Text.assemble((before, "dim"), (marked, style), (after, "dim"))


def _print_what_if(what_if: dict[str, Any], diagnosis: Diagnosis, console: Console) -> None:
    console.print(Text("What if", "bold"))
    changed = what_if.get("requests_changed") or [None] * len(what_if["edits"])
    for text, count in zip(what_if["edits"], changed, strict=False):
        console.print(Text(" " * _INDENT + visible(text, len(text)), "cyan"), soft_wrap=True)
        if count is not None:
            found = f"changes {number_of(count, 'request')}" if count else _unmatched(diagnosis.requests)
            console.print(Text(" " * _INDENT + found, "dim" if count else "bold yellow"), soft_wrap=True)
    gain = what_if["gain_tokens"]
    console.print(
        Text.assemble(
            " " * _INDENT,
            f"hit rate {diagnosis.hit_rate:.2%} to ",
            (f"{what_if['hit_rate']:.2%}", "bold green"),
            ", ",
            (f"{abs(gain):,}", "bold green" if gain > 0 else "bold red" if gain < 0 else ""),
            f" prefill tokens {'saved' if gain >= 0 else 'more'}",
        ),
        soft_wrap=True,
    )
    console.print()


def _unmatched(requests: int) -> str:
    return f"matches nothing in {number_of(requests, 'request')}"


def _money(money: dict[str, Any]) -> str:
    return money_text(float(money["amount"]), str(money["currency"]))


def _notes(diagnosis: Diagnosis) -> Sequence[str]:
    notes = []
    knee = None if diagnosis.curve is None else diagnosis.curve.knee
    if knee is not None and diagnosis.curve is not None:
        blocks, rate = knee["capacity_blocks"], knee["hit_rate"]
        tokens = amount(blocks * diagnosis.curve.block_size)
        notes.append(
            f"Best value: {blocks:,} blocks ({tokens} tokens) reach {rate:.2%}, the knee of the curve."
        )
    if any(finding.sampled for finding in diagnosis.findings):
        notes.append("Texts were compared for an even selection of the misses; causes are counted over all.")
    return notes


def _bar(share: float, plain: bool) -> str:
    if plain:
        return ("#" * round(share * _BAR)).ljust(_BAR)
    full, rest = divmod(round(share * _BAR * 8), 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(_BAR)
