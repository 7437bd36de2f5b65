"""The turns of a session as they would be if the earlier ones had not been rewritten."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from radixcache.doctor.edits.rewriters import changed
from radixcache.logs.record import LogRequest

__all__ = ["HistoryKeeper", "new_messages_at", "new_text_at"]

_SESSIONS = 4096
_TAIL = 200  # characters


class HistoryKeeper:
    """Gives every request of a session the turns before it exactly as they were first sent.

    What a request adds follows what is left of the request before it: its last message, or the end of its
    text. A request in which that cannot be found restarts the session. At most 4,096 sessions are
    remembered, those used last.
    """

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, tuple[Any, Any]] = OrderedDict()  # as logged last, as kept

    def __call__(self, entry: LogRequest) -> LogRequest:
        logged = entry.messages if entry.messages is not None else entry.prompt
        if entry.session is None or logged is None:
            return entry
        before = self._sessions.pop(entry.session, None)
        kept: Any = logged
        if before is not None and type(before[0]) is type(logged):
            find: Any = new_text_at if isinstance(logged, str) else new_messages_at
            place = find(before[0], logged)
            if place is not None:
                kept = before[1] + logged[place:]
        self._sessions[entry.session] = logged, kept
        if len(self._sessions) > _SESSIONS:
            self._sessions.popitem(last=False)
        if kept == logged:
            return entry
        return changed(entry, **{"prompt" if isinstance(kept, str) else "messages": kept})


def new_messages_at(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> int | None:
    """Where what was not sent before begins: behind the last message of then; None if it is not there, or
    nothing follows it.

    Of several such messages it is the one with the most in front of it that was there, too.
    """
    best = 0
    place = None
    for stop in range(1, len(now) + 1):
        same = 0
        while same < min(stop, len(before)) and now[stop - 1 - same] == before[-1 - same]:
            same += 1
        if same >= max(best, 1):
            best, place = same, stop
    if place is not None:
        return place if place < len(now) or now == before else None
    count = len(before)
    return count if len(now) > count and now[count - 1]["role"] == before[-1]["role"] else None


def new_text_at(before: str, now: str) -> int | None:
    """The same for prompts that are one text."""
    if now.startswith(before):
        return len(before)
    tail = before[-_TAIL:]
    place = now.rfind(tail)
    return place + len(tail) if 0 <= place < len(now) - len(tail) else None
