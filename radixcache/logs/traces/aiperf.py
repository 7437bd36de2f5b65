"""AIPerf's input files that hold prompts: times in milliseconds, or delays after the turn before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from radixcache.logs.bodies import holds_prompt, read_body
from radixcache.logs.bodies.common import unread_beside
from radixcache.logs.bodies.parts import as_object
from radixcache.logs.fields import field_of, read_count, read_text
from radixcache.logs.format import Format, Line, session_of
from radixcache.logs.record import BadLine, LogRequest
from radixcache.logs.rules import LineRules

__all__ = ["AIPerf"]

_BESIDE = ("delay", "output_length")


class AIPerf(Format):
    """Lines with `payload`, or with a prompt and `delay`, `text_input` or `output_length` beside it."""

    name = "aiperf"
    fields = "payload, or messages or text_input with delay or output_length"

    def __init__(self, rules: LineRules, trace_block: int | None) -> None:
        super().__init__(rules, trace_block)
        self._last: dict[str, float] = {}

    def claims(self, record: Mapping[str, Any]) -> bool:
        if holds_prompt(record.get("payload")):
            return True
        beside = "response" not in record and any(name in record for name in _BESIDE)
        return ("text_input" in record or beside) and holds_prompt(record)

    def read(self, line: Line) -> Iterator[LogRequest | BadLine]:
        record = line.record
        payload = record.get("payload")
        body = as_object("payload", payload) if holds_prompt(payload) else record
        read = read_body(body)
        if body is not record:
            read = replace(read, notes=read.notes + unread_beside(record, ("payload",)))
        session = session_of(record)
        yield self.request(
            line,
            read,
            session=session,
            time=self._time(record, read_text(session) or ""),
            time_unit="ms",
            response=record.get("output"),
            max_tokens=read_count(field_of(record, "output_length")) or None,
        )

    def _time(self, record: Mapping[str, Any], session: str) -> Any:
        """The time as logged, or as far after the turn before as `delay` says; in milliseconds."""
        time, delay = record.get("timestamp"), record.get("delay")
        if time is None and isinstance(delay, int | float) and session in self._last:
            time = self._last[session] + delay
        if isinstance(time, int | float):
            self._last[session] = time
        return time
