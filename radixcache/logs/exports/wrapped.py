"""Small wrappers of one request: OpenPipe, SageMaker's data capture, stored chat completions."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any

from radixcache.logs.bodies import holds_prompt, read_body
from radixcache.logs.bodies.parts import as_object
from radixcache.logs.exports.json_fields import unpacked
from radixcache.logs.fields import field_of
from radixcache.logs.format import Format, Line, first_of, session_of, time_of
from radixcache.logs.record import BadLine, InvalidRecordError, LogRequest
from radixcache.logs.requests import response_usage
from radixcache.logs.usage import read_usage

__all__ = ["OpenPipe", "SageMaker", "StoredCompletions"]


class OpenPipe(Format):
    """OpenPipe's `input` and `output`."""

    name = "openpipe"
    fields = "input with messages, and output"
    known = frozenset(
        """
        input output tags metadata id requestedAt requested_at receivedAt received_at model duration
        cost status error split statusCode created_at timestamp session_id
        """.split()  # noqa: SIM905 - words are easier to read
    )

    def claims(self, record: Mapping[str, Any]) -> bool:
        return isinstance(record.get("input"), dict) and holds_prompt(record["input"])

    def read(self, line: Line) -> Iterator[LogRequest | BadLine]:
        record = line.record
        response = record.get("output")
        yield self.request(
            line,
            read_body(record["input"]),
            session=first_of(("tags.session_id", "metadata.session_id"), record) or session_of(record),
            time=first_of(("requestedAt", "requested_at"), record) or time_of(record),
            response=response,
            usage=read_usage(response_usage(response)),
        )


class SageMaker(Format):
    """Captured data of an endpoint: the body as text."""

    name = "sagemaker"
    fields = "captureData.endpointInput"
    known = frozenset(
        """
        captureData eventMetadata eventVersion
        """.split()  # noqa: SIM905 - words are easier to read
    )

    def claims(self, record: Mapping[str, Any]) -> bool:
        return isinstance(record.get("captureData"), dict)

    def read(self, line: Line) -> Iterator[LogRequest | BadLine]:
        record = line.record
        body = _captured("captureData.endpointInput", field_of(record, "captureData.endpointInput"))
        answer = field_of(record, "captureData.endpointOutput")
        response = None
        if isinstance(answer, dict):
            try:
                response = _captured("captureData.endpointOutput", answer)
            except InvalidRecordError:
                response = None
        yield self.request(
            line,
            read_body(as_object("captureData.endpointInput.data", body)),
            time=field_of(record, "eventMetadata.inferenceTime"),
            response=response,
            usage=read_usage(response_usage(response)),
        )


def _captured(name: str, captured: Any) -> Any:
    data = as_object(name, captured).get("data")
    if captured.get("encoding") == "BASE64" and isinstance(data, str):
        try:
            data = base64.b64decode(data, validate=True).decode()
        except (binascii.Error, ValueError):
            raise InvalidRecordError(f"{name}.data is not base64 of text") from None
    body = unpacked(data)
    if not isinstance(body, dict):
        raise InvalidRecordError(f"{name}.data is not JSON")
    return body


class StoredCompletions(Format):
    """Chat completions that OpenAI stored: the answer, with the request's messages in it."""

    name = "stored completions"
    fields = "object chat.completion and messages"
    known = frozenset(
        """
        id object created model choices usage metadata request_id input_user tools tool_choice
        messages temperature top_p seed presence_penalty frequency_penalty service_tier
        system_fingerprint response_format
        """.split()  # noqa: SIM905 - words are easier to read
    )

    def claims(self, record: Mapping[str, Any]) -> bool:
        return record.get("object") == "chat.completion" and isinstance(record.get("messages"), list)

    def read(self, line: Line) -> Iterator[LogRequest | BadLine]:
        record = line.record
        messages = [
            {**message, "content": message["content_parts"] or message.get("content")}
            if isinstance(message, dict) and "content_parts" in message
            else message
            for message in record["messages"]
        ]
        body = {"messages": messages, "tools": record.get("tools"), "model": record.get("model")}
        yield self.request(
            line,
            read_body(body),
            session=first_of(("metadata.session_id", "metadata.conversation_id"), record),
            time=record.get("created"),
            response={"choices": record.get("choices")},
            usage=read_usage(record.get("usage")),
        )
