"""Sessions of a log taken in turns, as a server sees them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

__all__ = ["interleave"]

T = TypeVar("T")


def interleave(items: Iterable[T], active: int, session_of: Callable[[T], Hashable | None]) -> list[T]:
    """Reorder so that `active` sessions take turns, one item each; when one ends the next takes its place.

    Sessions start in the order of their first items, and the items of a session keep their order. An item
    whose session is None is a session by itself.

    Raises:
        ValueError: if `active` is below 1.
    """
    if active < 1:
        raise ValueError(f"interleave must be at least 1, got {active}")
    sessions: dict[Hashable, deque[T]] = {}
    for position, item in enumerate(items):
        session = session_of(item)
        key = (True, position) if session is None else (False, session)
        sessions.setdefault(key, deque()).append(item)
    waiting = deque(sessions.values())
    slots = deque(waiting.popleft() for _ in range(min(active, len(waiting))))
    order: list[T] = []
    while slots:
        current = slots.popleft()
        order.append(current.popleft())
        if current:
            slots.append(current)
        elif waiting:
            slots.append(waiting.popleft())
    return order
