"""vLLM's log on a terminal: lines of text, some of which tell of a request.

With the log level DEBUG a line gives the prompt and its token ids; older versions gave both at INFO.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

from radixcache.logs.bodies import read_body
from radixcache.logs.format import Format, Line
from radixcache.logs.record import BadLine, InvalidRecordError, LogRequest

__all__ = ["VLLM", "record_of"]

_LINE = re.compile(
    rb"^(?:\(.{1,80}?\)\s+)?(?:DEBUG|INFO|WARNING|ERROR|CRITICAL)\s+(?P<time>\d\d-\d\d \d\d:\d\d:\d\d)\s+\["
)
_TEXT = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|None"""
_REQUEST = re.compile(
    rf"(?:Request \S+ details|Received request \S+?): prompt: (?P<prompt>{_TEXT})", re.DOTALL
)
_IDS = re.compile(r"prompt_token_ids: (\[[\d, ]*\]|None)")


def record_of(data: bytes) -> dict[str, Any] | None:
    """A line of the log as a record; None for a line that is not of such a log."""
    found = _LINE.match(data)
    if found is None:
        return None
    return {"vllm_log": data.decode("utf-8", "replace"), "time": found["time"].decode()}


class VLLM(Format):
    """Lines with a request; all other lines of the log are passed over."""

    name = "vllm"
    fields = "lines 'Request … details: prompt: …' of the log"

    def claims(self, record: Mapping[str, Any]) -> bool:
        return "vllm_log" in record

    def read(self, line: Line) -> Iterator[LogRequest | BadLine]:
        text = line.record["vllm_log"]
        found = _REQUEST.search(text)
        if found is None:
            return
        body: dict[str, Any] = {}
        ids = _IDS.search(text, found.end())
        if ids is not None and ids[1] != "None":
            body["prompt_token_ids"] = [int(part) for part in ids[1].strip("[]").split(",") if part.strip()]
        elif found["prompt"] != "None":
            body["prompt"] = ast.literal_eval(found["prompt"])
        if not any(body.values()):
            raise InvalidRecordError("the request has neither a prompt nor its token ids")
        # The year is not logged; differences within one year are right.
        yield self.request(line, read_body(body), time=f"2000-{line.record['time']}", raw=body)
