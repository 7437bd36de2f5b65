"""Every format is recognised by itself, with its optional fields."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from radixcache.logs import LogRequest, read_logs

USER = {"role": "user", "content": "hello"}


def read(tmp_path: Path, *records: Any) -> list[LogRequest]:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return list(read_logs([str(path)], strict=True))


def test_chat_completions_with_tools(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "look"}}]
    (request,) = read(tmp_path, {"messages": [USER], "tools": tools})
    assert (request.messages, request.tools) == ([USER], tools)
    assert request.prompt is None
    assert request.prompt_token_ids is None


def test_null_content_and_tool_calls_are_legal(tmp_path: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    messages = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": None},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "user", "content": [{"type": "text", "text": "a"}, "b"]},
    ]
    (request,) = read(tmp_path, {"messages": messages, "tools": None})
    assert request.messages == messages
    assert request.tools is None


def test_batch_line_is_unwrapped_and_raw_is_not(tmp_path: Path) -> None:
    record = {
        "custom_id": "r1",
        "method": "POST",
        "url": "/v1/chat/completions",
        "session_id": "outer",
        "body": {"model": "m", "messages": [USER], "max_tokens": 7, "timestamp": 12},
    }
    (request,) = read(tmp_path, record)
    assert request.messages == [USER]
    assert (request.max_tokens, request.timestamp, request.session) == (7, 12.0, "outer")
    assert request.raw == record


def test_prompt_text(tmp_path: Path) -> None:
    (request,) = read(tmp_path, {"prompt": "once upon", "response": {"text": "a time"}})
    assert request.prompt == "once upon"
    assert request.response == {"text": "a time"}


@pytest.mark.parametrize("field", ["prompt_token_ids", "prompt_ids", "prompt"])
def test_token_ids(tmp_path: Path, field: str) -> None:
    (request,) = read(tmp_path, {field: [0, 5, 2**31 - 1]})
    assert request.prompt_token_ids == [0, 5, 2**31 - 1]
    assert request.prompt is None


def test_token_ids_win_over_messages_and_messages_over_prompt(tmp_path: Path) -> None:
    first, second = read(
        tmp_path,
        {"prompt_token_ids": [1], "messages": [USER], "prompt": "x"},
        {"messages": [USER], "prompt": "x"},
    )
    assert first.prompt_token_ids == [1]
    assert first.messages is None
    assert second.messages == [USER]
    assert second.prompt is None


def test_formats_may_share_a_file(tmp_path: Path) -> None:
    requests = read(tmp_path, {"messages": [USER]}, {"prompt": "x"}, {"prompt_ids": [3]})
    assert [r.line for r in requests] == [1, 2, 3]
    assert [bool(r.messages) for r in requests] == [True, False, False]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1.5, 1.5),
        (0, 0.0),
        (1_760_428_224, 1_760_428_224.0),
        (1_760_428_224_978, 1_760_428_224.978),
        (1_760_428_224_978_269, 1_760_428_224.978269),
        ("2026-03-03T09:00:00Z", 1_772_528_400.0),
        ("2026-03-03T10:00:00+01:00", 1_772_528_400.0),
        ("2026-03-03 09:00:00", 1_772_528_400.0),
    ],
)
def test_timestamps_become_seconds(tmp_path: Path, value: Any, seconds: float) -> None:
    (request,) = read(tmp_path, {"prompt": "x", "timestamp": value})
    assert request.timestamp == pytest.approx(seconds, rel=1e-15)


def test_null_timestamp_is_none(tmp_path: Path) -> None:
    (request,) = read(tmp_path, {"prompt": "x", "timestamp": None})
    assert request.timestamp is None


@pytest.mark.parametrize(
    ("fields", "session"),
    [
        ({"session_id": "a"}, "a"),
        ({"session": 7}, "7"),
        ({"session_id": None, "session": "b"}, "b"),
        ({}, None),
    ],
)
def test_session_by_either_name(tmp_path: Path, fields: dict[str, Any], session: str | None) -> None:
    (request,) = read(tmp_path, {"prompt": "x", **fields})
    assert request.session == session


def test_max_completion_tokens_is_max_tokens(tmp_path: Path) -> None:
    first, second, third = read(
        tmp_path,
        {"prompt": "x", "max_completion_tokens": 9},
        {"prompt": "x", "max_tokens": 8},
        {"prompt": "x", "max_tokens": None},
    )
    assert (first.max_tokens, second.max_tokens, third.max_tokens) == (9, 8, None)
