"""Batches of OpenAI and Anthropic: `custom_id` with a `body` or `params`; answers in a file beside it.

Answers that are read before their requests (`Batches.learn`) are joined to them by `custom_id`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from radixcache.logs.bodies import holds_prompt, read_body
from radixcache.logs.format import Format, Line, session_of, time_of
from radixcache.logs.record import BadLine, InvalidRecordError, LogRequest
from radixcache.logs.requests import response_usage
from radixcache.logs.rules import LineRules
from radixcache.logs.usage import read_usage

__all__ = ["Batches"]


class Batches(Format):
    """Lines of a batch's input; those of its output are answers, not requests."""

    name = "batch"
    fields = "custom_id with body, params, response or result"
    known = frozenset(
        """
        id custom_id method url body params response result error request_id status processed_at timestamp
        created_at session_id session conversation_id thread_id chat_id metadata tenant
        """.split()  # noqa: SIM905 - words are easier to read
    )

    def __init__(self, rules: LineRules, trace_block: int | None) -> None:
        super().__init__(rules, trace_block)
        self._answers: dict[str, Any] = {}

    def claims(self, record: Mapping[str, Any]) -> bool:
        return "custom_id" in record and (
            self.is_answer(record) or any(holds_prompt(record.get(name)) for name in ("body", "params"))
        )

    @staticmethod
    def is_answer(record: Mapping[str, Any]) -> bool:
        """Whether a record is an answer."""
        return (
            "custom_id" in record
            and not any(name in record for name in ("body", "params"))
            and any(isinstance(record.get(name), dict) for name in ("response", "result"))
        )

    def learn(self, record: Mapping[str, Any]) -> None:
        """Remember an answer for the request that it belongs to."""
        response, result = record.get("response"), record.get("result")
        answer = response.get("body") if isinstance(response, dict) else None
        if isinstance(result, dict):
            answer = result.get("message")
        if isinstance(answer, dict):
            self._answers[str(record["custom_id"])] = answer

    def read(self, line: Line) -> Iterator[LogRequest | BadLine]:
        record = line.record
        if self.is_answer(record):
            if str(record["custom_id"]) not in self._answers:
                self.learn(record)
            return
        body = next(record[name] for name in ("body", "params") if holds_prompt(record.get(name)))
        if not isinstance(body, dict):
            raise InvalidRecordError("body is not an object")
        response = self._answers.get(str(record["custom_id"]), record.get("response"))
        yield self.request(
            line,
            read_body(body),
            session=session_of(record, body),
            time=time_of(record, body),
            response=response,
            usage=read_usage(response_usage(response)),
        )
