"""From one line of text to its requests: which format it is, and its fields."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from radixcache.logs.agent_session import is_agent_session, parse_agent_session
from radixcache.logs.chat import parse_chat
from radixcache.logs.fields import describe, parse_max_tokens, parse_session, parse_timestamp
from radixcache.logs.mooncake import parse_milliseconds, parse_mooncake
from radixcache.logs.prompt import parse_prompt
from radixcache.logs.record import BadLine, BlockTrace, InvalidRecordError, LogRequest, Prompt
from radixcache.logs.rules import LineRules
from radixcache.logs.tokens import parse_token_ids

__all__ = ["parse_line"]

_DEFAULT_RULES = LineRules()
_FIELDS_SHOWN = 12
_TOKEN_FIELDS = ("prompt_token_ids", "prompt_ids")


def parse_line(
    source: str, line: int, data: bytes, trace_block: int | None, rules: LineRules = _DEFAULT_RULES
) -> Iterator[LogRequest | BadLine]:
    """Parse one line of a log, recognising its format by its fields.

    Most lines are one request; an agent session holds many, and what is wrong with one of them comes as a
    `BadLine` between the others. Token ids win over `messages`, `messages` over `prompt`, and that over
    block hashes, where a record has several: the more exact form says what the model was really given.

    Args:
        trace_block: tokens a hash of a Mooncake trace stands for; None where hashes are of no use.
        rules: where sessions and times are.

    Raises:
        InvalidRecordError: if the line is no request; the message is the reason.
    """
    record = rules.applied(_parse_json(data))
    body = record
    if isinstance(record.get("body"), dict) and not _has_prompt(record):
        body = record["body"]
    if not _has_prompt(body):
        if is_agent_session(record):
            _check_traces_wanted(trace_block)
            yield from parse_agent_session(source, line, record)
            return
        if record.get("hash_ids") is not None:
            blocks = parse_mooncake(record, source, _check_traces_wanted(trace_block))
            yield _request(source, line, record, body, Prompt(), blocks)
            return
    yield _request(source, line, record, body, _parse_prompt_of(body), None)


def _check_traces_wanted(trace_block: int | None) -> int:
    if trace_block is None:
        raise InvalidRecordError("holds hashes of blocks, which can be simulated but not replayed")
    return trace_block


def _request(
    source: str,
    line: int,
    record: dict[str, Any],
    body: dict[str, Any],
    prompt: Prompt,
    blocks: BlockTrace | None,
) -> LogRequest:
    return LogRequest(
        source=source,
        line=line,
        messages=prompt.messages,
        tools=prompt.tools,
        prompt=prompt.text,
        prompt_token_ids=prompt.token_ids,
        session=parse_session(record, body),
        timestamp=parse_timestamp(record, body) if blocks is None else parse_milliseconds(record),
        max_tokens=parse_max_tokens(body),
        response=record.get("response"),
        raw=record,
        blocks=blocks,
    )


def _parse_json(data: bytes) -> dict[str, Any]:
    try:
        record = json.loads(data.decode("utf-8-sig"))  # json would take UTF-16, too, and raw surrogates
    except UnicodeDecodeError as error:
        culprit = error.object[error.start]
        raise InvalidRecordError(f"not UTF-8: byte {error.start} is 0x{culprit:02x}") from None
    except json.JSONDecodeError as error:
        what = error.msg.removesuffix(" at")
        raise InvalidRecordError(f"not JSON: {what} at column {error.colno}") from None
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
    raise InvalidRecordError(f"has none of messages, prompt and prompt_token_ids{_fields(body)}")


def _fields(record: dict[str, Any]) -> str:
    """The names of a record's fields, as far as they are worth a place in an error message."""
    if not record:
        return ", it is empty"
    names = [name if len(name) <= 24 else name[:23] + "…" for name in list(record)[:_FIELDS_SHOWN]]
    more = f" and {len(record) - _FIELDS_SHOWN} more" if len(record) > _FIELDS_SHOWN else ""
    return f"; its fields are {', '.join(names)}{more}"
