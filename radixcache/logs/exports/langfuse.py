"""Langfuse: observations of type GENERATION, their `input` and `output` as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from radixcache.logs.bodies import holds_prompt, read_body
from radixcache.logs.exports.json_fields import unpacked
from radixcache.logs.format import Format, Line, first_of
from radixcache.logs.record import BadLine, InvalidRecordError, LogRequest
from radixcache.logs.usage import read_usage

__all__ = ["Langfuse"]

_KINDS = (
    "GENERATION",
    "SPAN",
    "EVENT",
    "AGENT",
    "TOOL",
    "CHAIN",
    "RETRIEVER",
    "EVALUATOR",
    "EMBEDDING",
    "GUARDRAIL",
)


class Langfuse(Format):
    """Generations as Langfuse exports them; observations of other types are passed over."""

    name = "langfuse"
    fields = "type GENERATION, input and trace_id"
    known = frozenset(
        """
        id trace_id traceId project_id projectId environment type parent_observation_id
        parentObservationId start_time startTime end_time endTime completion_start_time
        completionStartTime name metadata level status_message statusMessage version input output
        provided_model_name model model_id modelId internalModelId model_parameters modelParameters
        usage_details usageDetails cost_details costDetails usage provided_usage_details
        provided_cost_details tool_calls tool_call_names tool_definitions toolDefinitions user_id
        userId session_id sessionId trace_name traceName tags release prompt_id promptId prompt_name
        promptName prompt_version promptVersion unit latency timeToFirstToken created_at createdAt
        updated_at updatedAt bookmarked public inputPrice outputPrice totalPrice
        """.split()  # noqa: SIM905 - words are easier to read
    )

    def claims(self, record: Mapping[str, Any]) -> bool:
        return record.get("type") in _KINDS and any(name in record for name in ("trace_id", "traceId"))

    def read(self, line: Line) -> Iterator[LogRequest | BadLine]:
        record = line.record
        if record["type"] != "GENERATION":
            return
        given = unpacked(record.get("input"))
        if isinstance(given, str) and given:
            body: dict[str, Any] = {"prompt": given}
        elif isinstance(given, list) and given:
            body = {"messages": given}
        elif isinstance(given, dict) and holds_prompt(given):
            body = dict(given)
        elif isinstance(given, dict) and "role" in given:
            body = {"messages": [given]}
        else:
            raise InvalidRecordError("input holds no prompt")
        if not body.get("tools") and (
            tools := _tools(first_of(("tool_definitions", "toolDefinitions"), record))
        ):
            body["tools"] = tools
        body.setdefault("model", first_of(("provided_model_name", "model"), record))
        yield self.request(
            line,
            read_body(body),
            session=first_of(("session_id", "sessionId", "trace_id", "traceId"), record),
            time=first_of(("start_time", "startTime"), record),
            response=unpacked(record.get("output")),
            usage=read_usage(unpacked(first_of(("usage_details", "usageDetails", "usage"), record))),
        )


def _tools(definitions: Any) -> list[dict[str, Any]]:
    """Definitions by name, each as JSON of the rest of it, as chat completions has them."""
    definitions = unpacked(definitions)
    if isinstance(definitions, list):
        return [tool for tool in definitions if isinstance(tool, dict)]
    if not isinstance(definitions, dict):
        return []
    tools = []
    for name, text in definitions.items():
        rest = unpacked(text)
        rest = rest if isinstance(rest, dict) else {"description": rest}
        tools.append({"type": "function", "function": {"name": name, **rest}})
    return tools
