"""SGLang's request log in JSON: an event a line.

The same request is logged as its API took it and as the engine did; the first form that a log has is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from radixcache.logs.bodies import holds_prompt, read_body
from radixcache.logs.fields import field_of
from radixcache.logs.format import Format, Line, session_of
from radixcache.logs.record import BadLine, LogRequest
from radixcache.logs.rules import LineRules
from radixcache.logs.usage import read_usage

__all__ = ["SGLang"]

_RECEIVED = "request.received"
_FINISHED = "request.finished"


class SGLang(Format):
    """Events `request.received` with the request as `obj`; without any, those that are finished."""

    name = "sglang"
    fields = "event request.received and obj"
    known = frozenset(
        """
        timestamp event obj out rid
        """.split()  # noqa: SIM905 - words are easier to read
    )

    def __init__(self, rules: LineRules, trace_block: int | None) -> None:
        super().__init__(rules, trace_block)
        self._kind: str | None = None

    def claims(self, record: Mapping[str, Any]) -> bool:
        event = record.get("event")
        return isinstance(event, str) and event.startswith((_RECEIVED, _FINISHED)) and "obj" in record

    def read(self, line: Line) -> Iterator[LogRequest | BadLine]:
        record, event = line.record, line.record["event"]
        body = record["obj"]
        if isinstance(body, dict) and isinstance(body.get("text"), str):
            body = {**body, "prompt": body["text"]}
        if not holds_prompt(body):
            return
        if self._kind is None:
            self._kind = event
        if event != self._kind:
            return
        out = record.get("out")
        yield self.request(
            line,
            read_body(body),
            session=session_of(body, record),
            time=record.get("timestamp"),
            response=out.get("text") if isinstance(out, dict) else None,
            usage=read_usage(field_of(out, "meta_info") if isinstance(out, dict) else None),
        )
