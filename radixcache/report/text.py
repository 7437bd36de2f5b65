"""Text from outside made safe to print, and numbers made short."""

from __future__ import annotations

__all__ = ["amount", "gigabytes", "number_of", "percent", "ratio", "seconds", "visible"]


def visible(text: str, limit: int = 60) -> str:
    """Escape what a terminal would act on (control characters, bidirectional marks) and cut to `limit`."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


def number_of(number: int, thing: str) -> str:
    """A number of things: `1 request`, `1,381 requests`."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def seconds(value: float | None) -> str:
    """A duration with three significant digits: `412 ms`, `3.21 s`, `95.0 s`."""
    if value is None:
        return "-"
    if value < 0.9995:
        return f"{value * 1000:.0f} ms" if value >= 0.0995 else f"{value * 1000:.1f} ms"
    return f"{value:.2f} s" if value < 9.995 else f"{value:,.1f} s"


def percent(share: float, digits: int = 1) -> str:
    """A share as `12.3%`; what rounds to nothing has no sign."""
    return f"{round(share, digits + 2) + 0.0:.{digits}%}"


def ratio(before: float | None, after: float | None) -> str:
    """How many times smaller `after` is: `12.3x`; empty if that cannot be said."""
    if before is None or not after:
        return ""
    times = before / after
    return f"{times:.1f}x" if times >= 9.95 else f"{times:.2f}x"


def gigabytes(value: int | None) -> str:
    """Bytes as gigabytes (10^9) with three significant digits: `0.031`, `1.25`, `80.0`, `1,320`."""
    if value is None:
        return "-"
    size = value / 1e9
    if size >= 999.5:
        return f"{size:,.0f}"
    return f"{size:.1f}" if size >= 99.95 else f"{size:#.3g}" if size >= 0.001 or not value else "<0.001"


def amount(value: int) -> str:
    """A large number with three significant digits: `512 k`, `1.60 M`, `25.6 M`."""
    for unit, scale in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if value >= scale:
            size = value / scale
            return (
                f"{size:.2f} {unit}"
                if size < 9.995
                else f"{size:.1f} {unit}"
                if size < 99.95
                else f"{size:,.0f} {unit}"
            )
    return str(value)
