"""From one line of text to one request: which format it is, and its fields."""

from __future__ import annotations

import json
from typing import Any

from radixcache.logs.chat import parse_chat
from radixcache.logs.fields import describe, parse_max_tokens, parse_session, parse_timestamp
from radixcache.logs.prompt import parse_prompt
from radixcache.logs.record import InvalidRecordError, LogRequest, Prompt
from radixcache.logs.tokens import parse_token_ids

__all__ = ["parse_line"]

_TOKEN_FIELDS = ("prompt_token_ids", "prompt_ids")


def parse_line(source: str, line: int, data: bytes) -> LogRequest:
    """Parse one line of a log, recognising its format by its fields.

    Token ids win over `messages`, and `messages` over `prompt`, where a record has several: the more exact
    form says what the model was really given.

    Raises:
        InvalidRecordError: if the line is no request; the message is the reason.
    """
    record = _parse_json(data)
    body = record
    if isinstance(record.get("body"), dict) and not _has_prompt(record):
        body = record["body"]
    prompt = _parse_prompt_of(body)
    return LogRequest(
        source=source,
        line=line,
        messages=prompt.messages,
        tools=prompt.tools,
        prompt=prompt.text,
        prompt_token_ids=prompt.token_ids,
        session=parse_session(record, body),
        timestamp=parse_timestamp(record, body),
        max_tokens=parse_max_tokens(body),
        response=record.get("response"),
        raw=record,
    )


def _parse_json(data: bytes) -> dict[str, Any]:
    try:
        record = json.loads(data)
    except UnicodeDecodeError as error:
        raise InvalidRecordError(f"not UTF-8: byte {error.start} is 0x{data[error.start]:02x}") from None
    except json.JSONDecodeError as error:
        raise InvalidRecordError(f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise InvalidRecordError("not JSON: nested too deeply") from None
    except ValueError as error:  # an integer of more digits than Python converts
        raise InvalidRecordError(f"not JSON: {error}") from None
    if not isinstance(record, dict):
        raise InvalidRecordError(f"is {describe(record)}, not an object")
    if b"\\ud" in data.lower():
        _refuse_lone_surrogates(record)
    return record


def _refuse_lone_surrogates(record: dict[str, Any]) -> None:
    """JSON can escape half a surrogate pair; that is no text and no tokenizer takes it."""
    try:
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        culprit = ord(error.object[error.start])
        raise InvalidRecordError(f"contains half a surrogate pair (\\u{culprit:04x})") from None


def _has_prompt(record: dict[str, Any]) -> bool:
    return any(record.get(name) is not None for name in (*_TOKEN_FIELDS, "messages", "prompt"))


def _parse_prompt_of(body: dict[str, Any]) -> Prompt:
    for name in _TOKEN_FIELDS:
        if body.get(name) is not None:
            return parse_token_ids(name, body[name])
    if body.get("messages") is not None:
        return parse_chat(body)
    if body.get("prompt") is not None:
        return parse_prompt(body)
    raise InvalidRecordError("has none of messages, prompt and prompt_token_ids")
