"""A plan for the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from radixcache.plan.plan import LogPlan, Plan
from radixcache.report.terminal.chart import is_plain
from radixcache.report.text import gigabytes, visible

__all__ = ["print_plan"]

_BAR = 40
_SOURCES = {"given": "as given", "files": "its files", "estimate": "estimated from its shape"}


def print_plan(plan: Plan, console: Console) -> None:
    """Print what memory holds, what fits, and what the log makes of it."""
    title = f"  {visible(plan.model)}, keys and values in {plan.dtype}"
    console.print(Text.assemble(("What fits", "bold"), title), soft_wrap=True)
    console.print()
    console.print(_bar(plan, ("#", "=", ".") if is_plain(console) else ("█", "▒", "░")), soft_wrap=True)
    console.print(_sizes(plan))
    for line in _warnings(plan):
        console.print(Text(line, "bold yellow"), soft_wrap=True)
    if plan.log is not None:
        console.print(_log(plan.log))
        notes = "Prompts only, whole blocks only, LRU, all of the room for the cache."
        console.print(Text(notes, "dim"), soft_wrap=True)


def _bar(plan: Plan, signs: tuple[str, str, str]) -> Text:
    full, half, empty = signs
    taken = min(_BAR, round(_BAR * (plan.weights or 0) / plan.gpu_memory))
    held = min(_BAR - taken, round(_BAR * plan.sequences * plan.sequence_memory / plan.gpu_memory))
    bar = Text.assemble(
        (full * taken, "blue"), (half * held, "green"), (empty * (_BAR - taken - held), "dim")
    )
    bar.append(f"  {gigabytes(plan.gpu_memory)} GB\n")
    sequences = f"{plan.sequences:,} sequences of {plan.context:,} tokens"
    bar.append(f"{full} weights  {half} {sequences}  {empty} free", "dim")
    return bar


def _sizes(plan: Plan) -> Table:
    table = Table(show_header=False, box=box.SIMPLE)
    table.add_column(style="dim")
    table.add_column(justify="right", style="bold", no_wrap=True)
    table.add_column()
    kept = (
        f"{plan.layers} layers, of different widths or a compressed latent each"
        if plan.kv_heads is None
        else f"{plan.layers} layers x {plan.kv_heads} KV heads x {plan.head_dim} x 2"
    )
    weights = "-" if plan.weights is None else f"{gigabytes(plan.weights)} GB"
    source = "unknown, counted as nothing" if plan.weights_from is None else _SOURCES[plan.weights_from]
    table.add_row("a token", f"{plan.bytes_per_token:,} bytes", kept)
    table.add_row("weights", weights, source)
    table.add_row("room for the cache", f"{gigabytes(plan.cache_memory)} GB", "")
    table.add_row("tokens that fit", f"{plan.tokens:,}", "")
    table.add_row(f"a sequence of {plan.context:,}", f"{gigabytes(plan.sequence_memory)} GB", "")
    if plan.sequence_memory_windowed is not None:
        what = f"if {plan.sliding_layers} layers keep {plan.sliding_window:,} tokens only"
        table.add_row("", f"{gigabytes(plan.sequence_memory_windowed)} GB", what)
    table.add_row("sequences at once", f"{plan.sequences:,}", "with nothing shared")
    return table


def _warnings(plan: Plan) -> list[str]:
    lines = []
    if plan.weights is not None and plan.weights >= plan.gpu_memory:
        lines.append("The weights alone fill this memory: give that of all GPUs together.")
    elif not plan.sequences:
        lines.append(f"Not one sequence of {plan.context:,} tokens fits.")
    if plan.max_context is not None and plan.context > plan.max_context:
        lines.append(f"The model states a context of {plan.max_context:,} tokens, less than asked for.")
    return lines


def _log(log: LogPlan) -> Table:
    names = ", ".join(visible(name.rsplit("/", 1)[-1], 40) for name in log.logs)
    table = Table(title=f"In that room: {names}", title_justify="left", title_style="bold", show_header=False)
    table.box = box.SIMPLE
    table.add_column(style="dim")
    table.add_column(justify="right", style="bold", no_wrap=True)
    table.add_column()
    counts = f"{log.cached_tokens_whole_blocks:,} of {log.prompt_tokens:,} prompt tokens"
    table.add_row("hit rate", Text(f"{log.hit_rate:.2%}", "bold green"), counts)
    blocks = f"blocks of {log.block_size:,} tokens"
    table.add_row("capacity", f"{log.capacity_blocks:,}", blocks)
    needed = f"with {gigabytes(log.saturation_bytes)} GB, {log.saturation_blocks:,} blocks"
    table.add_row("at most", f"{log.unbounded_hit_rate:.2%}", needed)
    return table
