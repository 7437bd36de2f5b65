"""OpenTelemetry spans by the semantic conventions for generative AI, as OTLP JSON or as flat attributes.

Messages are JSON with `parts`; the older forms, and OpenInference's, number them in the attributes' names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from radixcache.logs.bodies import read_body
from radixcache.logs.bodies.parts import as_list, as_object, json_text, tool_call
from radixcache.logs.exports.json_fields import unpacked
from radixcache.logs.format import Format, Line, first_of
from radixcache.logs.media import media_part
from radixcache.logs.record import BadLine, InvalidRecordError, LogRequest, Message
from radixcache.logs.usage import Usage

__all__ = ["OpenTelemetry"]

_OPERATIONS = ("chat", "text_completion", "generate_content", "completion")
_SESSIONS = (
    "gen_ai.conversation.id",
    "session.id",
    "langfuse.session.id",
    "traceloop.association.properties.session_id",
)
_NUMBERED = re.compile(r"(?:gen_ai\.prompt|llm\.input_messages)\.(\d+)\.(?:message\.)?(role|content)")


class OpenTelemetry(Format):
    """Spans of calls to models; other spans are passed over."""

    name = "opentelemetry"
    fields = "resourceSpans, or a span with attributes gen_ai.*"
    known = frozenset(
        """
        traceId spanId parentSpanId trace_id span_id parent_id parent_span_id name kind
        startTimeUnixNano endTimeUnixNano start_time_unix_nano end_time_unix_nano start_time
        end_time startTime endTime attributes status events links resource resourceSpans context
        traceState trace_state flags scope instrumentation_scope droppedAttributesCount schemaUrl
        """.split()  # noqa: SIM905 - words are easier to read
    )

    def claims(self, record: Mapping[str, Any]) -> bool:
        if isinstance(record.get("resourceSpans"), list):
            return True
        attributes = record.get("attributes")
        if isinstance(attributes, list):
            return any(name in record for name in ("spanId", "span_id", "traceId"))
        return isinstance(attributes, dict) and any(
            name.startswith(("gen_ai.", "llm.")) for name in attributes
        )

    def read(self, line: Line) -> Iterator[LogRequest | BadLine]:
        for name, span in _spans(line.record):
            try:
                found = self._request(line, span)
            except InvalidRecordError as error:
                if span is line.record:
                    raise
                yield BadLine(line.source, line.number, f"{name}: {error}")
                continue
            if found is not None:
                yield found

    def _request(self, line: Line, span: Mapping[str, Any]) -> LogRequest | None:
        attributes = _attributes(span.get("attributes"))
        operation = attributes.get("gen_ai.operation.name")
        if operation is not None and operation not in _OPERATIONS:
            return None
        messages = _messages(attributes)
        if messages is None:
            if operation is None:
                return None
            raise InvalidRecordError(
                "gen_ai.input.messages is missing: the application did not record prompts"
            )
        body: dict[str, Any] = {"messages": messages, "model": attributes.get("gen_ai.request.model")}
        if tools := unpacked(attributes.get("gen_ai.tool.definitions")):
            body["tools"] = tools
        body["max_tokens"] = attributes.get("gen_ai.request.max_tokens")
        output = unpacked(attributes.get("gen_ai.output.messages"))
        answer = (
            _message("gen_ai.output.messages[0]", output[0]) if isinstance(output, list) and output else None
        )
        start = first_of(("startTimeUnixNano", "start_time_unix_nano"), span)
        return self.request(
            line,
            read_body(body),
            session=next((attributes[name] for name in _SESSIONS if attributes.get(name)), None)
            or first_of(("traceId", "trace_id", "context.trace_id"), span),
            time=start if start is not None else first_of(("start_time", "startTime"), span),
            time_unit=None if start is None else "ns",
            response=answer,
            usage=_usage(attributes),
            own_record=span is not line.record,
        )


def _spans(record: dict[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if "resourceSpans" not in record:
        yield "", record
        return
    for i, resource in enumerate(as_list("resourceSpans", record["resourceSpans"])):
        for j, scope in enumerate(as_object(f"resourceSpans[{i}]", resource).get("scopeSpans") or []):
            for k, span in enumerate(as_object("scopeSpans", scope).get("spans") or []):
                name = f"resourceSpans[{i}].scopeSpans[{j}].spans[{k}]"
                yield name, as_object(name, span)


def _attributes(attributes: Any) -> dict[str, Any]:
    if isinstance(attributes, dict):
        return attributes
    found = {}
    for pair in attributes if isinstance(attributes, list) else ():
        if isinstance(pair, dict) and isinstance(pair.get("key"), str):
            found[pair["key"]] = _value(pair.get("value"))
    return found


def _value(value: Any) -> Any:
    if not isinstance(value, dict) or len(value) != 1:
        return value
    (kind, inner), *_ = value.items()
    if kind == "intValue":
        return int(inner) if str(inner).lstrip("-").isdecimal() else None
    if kind == "arrayValue":
        return [_value(item) for item in inner.get("values") or []] if isinstance(inner, dict) else None
    if kind == "kvlistValue":
        return _attributes(inner.get("values")) if isinstance(inner, dict) else None
    return inner


def _messages(attributes: Mapping[str, Any]) -> list[Message] | None:
    given = unpacked(attributes.get("gen_ai.input.messages", attributes.get("gen_ai.prompt")))
    messages: list[Message] = []
    if isinstance(given, list) and given:
        for i, message in enumerate(given):
            messages += _expanded(f"gen_ai.input.messages[{i}]", message)
    elif isinstance(given, str) and given:
        messages = [{"role": "user", "content": given}]
    else:
        messages = _numbered(attributes)
    if not messages:
        return None
    system = unpacked(attributes.get("gen_ai.system_instructions"))
    if isinstance(system, list):
        parts = [
            _part(f"gen_ai.system_instructions[{i}]", as_object("gen_ai.system_instructions", p))
            for i, p in enumerate(system)
        ]
        messages.insert(0, {"role": "system", "content": parts})
    elif isinstance(system, str) and system:
        messages.insert(0, {"role": "system", "content": system})
    return messages


def _numbered(attributes: Mapping[str, Any]) -> list[Message]:
    found: dict[int, Message] = {}
    for name, value in attributes.items():
        if match := _NUMBERED.fullmatch(name):
            found.setdefault(int(match[1]), {"role": "user", "content": None})[match[2]] = value
    return [found[number] for number in sorted(found)]


def _expanded(name: str, message: Any) -> Iterator[Message]:
    """A message, and its tool results as messages before it."""
    parts = as_object(name, message).get("parts")
    if isinstance(parts, list):
        for part in parts:
            if isinstance(part, dict) and part.get("type") == "tool_call_response":
                content = part.get("response", part.get("result"))
                yield {"role": "tool", "tool_call_id": part.get("id"), "content": json_text(content)}
    made = _message(name, message)
    if made["content"] or made.get("tool_calls") or made.get("reasoning_content"):
        yield made


def _message(name: str, message: Any) -> Message:
    message = as_object(name, message)
    if "parts" not in message:
        return dict(message)
    made: Message = {"role": message.get("role"), "content": []}
    for i, part in enumerate(as_list(f"{name}.parts", message["parts"])):
        where = f"{name}.parts[{i}]"
        kind = as_object(where, part).get("type")
        if kind == "tool_call":
            made.setdefault("tool_calls", []).append(
                tool_call(part.get("id"), part.get("name"), part.get("arguments"))
            )
        elif kind in ("reasoning", "thinking"):
            made["reasoning_content"] = made.get("reasoning_content", "") + str(part.get("content") or "")
        elif kind != "tool_call_response":
            made["content"].append(_part(where, part))
    return made


def _part(name: str, part: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(part.get("content"), str) and part.get("type") in ("text", None):
        return {"type": "text", "text": part["content"]}
    if isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    if part.get("type") in ("blob", "uri", "file"):
        modality = str(part.get("modality") or part.get("mime_type") or "file").partition("/")[0]
        content = part.get("content") or part.get("data") or part.get("uri") or part.get("file_id")
        return media_part(name, modality if modality in ("image", "audio") else "file", content)
    raise InvalidRecordError(f"{name} is of type {part.get('type')}, which is not known")


def _usage(attributes: Mapping[str, Any]) -> Usage | None:
    def count(*names: str) -> int | None:
        return next(
            (v for name in names if type(v := attributes.get(f"gen_ai.usage.{name}")) is int and v >= 0), None
        )

    prompt = count("input_tokens", "prompt_tokens")
    if prompt is None:
        return None
    return Usage(
        prompt,
        count("cache_read.input_tokens", "cache_read_input_tokens"),
        count("cache_creation.input_tokens", "cache_creation_input_tokens"),
        None,
        count("output_tokens", "completion_tokens"),
    )
