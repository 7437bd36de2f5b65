"""How the earlier turns of a session were rewritten from one request to the next."""

from __future__ import annotations

from typing import Any

__all__ = ["judge_history"]

Messages = list[dict[str, Any]]
_SYSTEM = ("system", "developer")


def judge_history(before: Messages, now: Messages) -> tuple[str, int] | None:
    """How, and from which message on; None if it is no rewriting.

    How is `truncated`, `summarised`, `dropped` (text within turns) or `edited`.

    Args:
        before: messages of one request of a session.
        now: those of the next, which do not begin with `before`.
    """
    first = next((i for i, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), None)
    if first is None or before[first]["role"] in _SYSTEM:
        return None
    old, new = before[first:], now[first:]
    for gone in range(1, len(old)):
        tail = old[gone:]
        for put in range(min(gone, len(new)) + 1):
            if new[put : put + len(tail)] == tail:
                if put == gone == 1:
                    return _edited(old[:1], new[:1]), first
                if put:
                    return ("summarised" if put < gone else "edited"), first
                return "truncated", first
    if len(now) <= len(before) or [m["role"] for m in new[: len(old)]] != [m["role"] for m in old]:
        return None
    return _edited(old, new), first


def _edited(old: Messages, new: Messages) -> str:
    """`dropped` if every turn that changed only lost something."""
    pairs = [(_text(a), _text(b)) for a, b in zip(old, new, strict=False) if a != b]
    return "dropped" if pairs and all(_is_cut(a, b) for a, b in pairs) else "edited"


def _is_cut(old: str, new: str) -> bool:
    """Whether `new` is `old` without one stretch in it, and not just another text."""
    if len(new) >= len(old):
        return False
    start = 0
    while start < len(new) and old[start] == new[start]:
        start += 1
    stop = 0
    while stop < len(new) - start and old[-1 - stop] == new[-1 - stop]:
        stop += 1
    return len(new) - start - stop <= 2  # a space or a line break may have changed, too


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(part if isinstance(part, str) else str(part.get("text", "")) for part in content)
    extra = [str(message[key]) for key in ("reasoning_content", "reasoning", "thinking") if message.get(key)]
    return "".join([*extra, content or ""])
