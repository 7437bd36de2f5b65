"""Tables that keep their numbers whole on a narrow terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rich.console import Console
from rich.table import Table

__all__ = ["first_that_fits", "fits"]


_UNLIMITED = 10_000


def fits(table: Table, console: Console) -> bool:
    """Whether nothing in a table has to be cut for the width of a console."""
    return _cuts(table, console, console.width) <= _cuts(table, console, _UNLIMITED)


def _cuts(table: Table, console: Console, width: int) -> int:
    lines = console.render_lines(table, console.options.update_width(width))
    return sum(segment.text.count("…") for line in lines for segment in line)


def first_that_fits(console: Console, forms: Iterable[Callable[[], Table]]) -> Table:
    """The first of several forms of a table, widest first, that fits; the last one if none does."""
    table = Table()
    for make in forms:
        table = make()
        if fits(table, console):
            break
    return table
