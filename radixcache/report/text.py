"""Text from outside made safe to print, and numbers made short."""

from __future__ import annotations

__all__ = ["ratio", "seconds", "visible"]


def visible(text: str, limit: int = 60) -> str:
    """Escape what a terminal would act on (control characters, bidirectional marks) and cut to `limit`."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


def seconds(value: float | None) -> str:
    """A duration with three significant digits: `412 ms`, `3.21 s`, `95.0 s`."""
    if value is None:
        return "-"
    if value < 0.9995:
        return f"{value * 1000:.0f} ms" if value >= 0.0995 else f"{value * 1000:.1f} ms"
    return f"{value:.2f} s" if value < 9.995 else f"{value:,.1f} s"


def ratio(before: float | None, after: float | None) -> str:
    """How many times smaller `after` is: `12.3x`; empty if that cannot be said."""
    if before is None or not after:
        return ""
    times = before / after
    return f"{times:.1f}x" if times >= 9.95 else f"{times:.2f}x"
