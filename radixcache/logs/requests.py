"""A request body a line, as sent to an API, perhaps with its answer beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from radixcache.logs.bodies import holds_prompt, read_body
from radixcache.logs.bodies.common import unread_beside
from radixcache.logs.bodies.responses import Conversations
from radixcache.logs.fields import field_of
from radixcache.logs.format import Format, Line, first_of, session_of, time_of
from radixcache.logs.record import BadLine, InvalidRecordError, LogRequest
from radixcache.logs.rules import LineRules
from radixcache.logs.usage import read_usage

__all__ = ["Requests", "response_usage"]

_ANSWERS = ("response", "completion", "output", "answer")
_TRAINING = frozenset(["messages", "tools", "functions", "parallel_tool_calls", "id", "system", "weight"])


def response_usage(response: Any) -> Any:
    """The `usage` of an API's response, by whichever name."""
    if not isinstance(response, Mapping):
        return None
    return first_of(("usage", "usageMetadata", "usage_metadata", "metrics.usage"), response)


class Requests(Format):
    """Bodies of chat completions, completions, Responses, Anthropic, Gemini, Bedrock and Ollama.

    A conversation that ends in an assistant's message and has no setting beside it is a training example:
    each of its answers was a request.
    """

    name = "requests"
    fields = "messages, prompt, prompt_token_ids, input (Responses) or contents (Gemini)"

    def __init__(self, rules: LineRules, trace_block: int | None) -> None:
        super().__init__(rules, trace_block)
        self._conversations = Conversations()

    def claims(self, record: Mapping[str, Any]) -> bool:
        if self.rules.prompt_field is not None and field_of(record, self.rules.prompt_field) is not None:
            return True
        return holds_prompt(record) or holds_prompt(record.get("body"))

    def read(self, line: Line) -> Iterator[LogRequest | BadLine]:
        record = line.record
        mapped = field_of(record, self.rules.prompt_field) if self.rules.prompt_field else None
        if mapped is not None:
            body: Mapping[str, Any] = {**record, **_named(self.rules.prompt_field or "", mapped)}
        else:
            body = record if holds_prompt(record) else record["body"]
        if _is_training(record, body):
            yield from self._examples(line, body)
            return
        response = first_of(_ANSWERS, record)
        read = self._conversations.continued(body, read_body(body))
        if body is not record:
            read = replace(read, notes=read.notes + unread_beside(record, ("body",)))
        self._conversations.answered(read, body, response)
        yield self.request(
            line,
            read,
            session=session_of(record, body),
            time=time_of(record, body),
            response=response,
            usage=read_usage(response_usage(response) or record.get("usage")),
        )

    def _examples(self, line: Line, body: Mapping[str, Any]) -> Iterator[LogRequest]:
        read = read_body(body)
        messages = read.messages or []
        session = f"{line.source}:{line.number}"
        for place, message in enumerate(messages):
            if place and message["role"] == "assistant":
                yield self.request(
                    line,
                    replace(read, messages=messages[:place]),
                    session=session_of(line.record) or session,
                    time=time_of(line.record, body),
                    response=message,
                    own_record=True,
                )


def _named(field: str, value: Any) -> dict[str, Any]:
    """A value under the name that its kind of prompt has."""
    if isinstance(value, str):
        return {"prompt": value}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return {"messages": value}
    if isinstance(value, list):
        return {"prompt_token_ids": value}
    if isinstance(value, dict) and holds_prompt(value):
        return value
    raise InvalidRecordError(f"{field} holds no prompt: text, messages, token ids or a request body")


def _is_training(record: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
    messages = body.get("messages")
    return (
        body is record
        and isinstance(messages, list)
        and len(messages) > 1
        and isinstance(messages[-1], dict)
        and messages[-1].get("role") == "assistant"
        and record.keys() <= _TRAINING
    )
