"""Answers as logs hold them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from radixcache.logs import read_logs
from radixcache.logs.answer import Answer, answer_of

CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLED = '[{"name": "f", "arguments": "{}"}]'
TOOL_USE = {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}}


def called(tool_calls: str) -> Answer:
    return Answer(None, None, None, tool_calls)


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({}, Answer(None, None, None)),
        ({"response": "yes"}, Answer("yes", None, None)),
        ({"output": "yes"}, Answer("yes", None, None)),
        ({"response": {"role": "assistant", "content": "yes"}}, Answer("yes", None, None)),
        ({"response": {"content": [{"type": "text", "text": "ye"}, "s"]}}, Answer("yes", None, None)),
        ({"response": {"content": "let me see", "tool_calls": [CALL]}}, called("let me see" + CALLED)),
        ({"response": {"content": None, "tool_calls": [CALL]}}, called(CALLED)),
        ({"response": {"function_call": CALL["function"]}}, called(CALLED)),
        ({"response": {"choices": [{"message": {"tool_calls": [CALL]}}]}}, called(CALLED)),
        (
            {"response": {"content": [{"type": "text", "text": "hm"}, TOOL_USE]}},
            called('hm[{"name": "f", "arguments": {"a": 1}}]'),
        ),
        ({"response": {"tool_calls": 7, "function_call": "f", "content": [3]}}, Answer(None, None, None)),
        ({"response": {"tool_calls": [3, {"function": 4}]}}, Answer(None, None, None)),
        (
            {"response": {"choices": [{"message": {"content": "yes"}}], "usage": {"completion_tokens": 2}}},
            Answer("yes", None, 2),
        ),
        ({"response": {"choices": [{"text": "yes"}]}}, Answer("yes", None, None)),
        ({"response": {"body": {"choices": [{"message": {"content": "yes"}}]}}}, Answer("yes", None, None)),
        ({"output_token_ids": [4, 5], "output_tokens": 2}, Answer(None, [4, 5], 2)),
        ({"output_token_ids": [4, -5]}, Answer(None, None, None)),
        ({"response": {"choices": []}, "output_tokens": True}, Answer(None, None, None)),
        ({"response": 7}, Answer(None, None, None)),
    ],
)
def test_answers(tmp_path: Path, fields: dict[str, Any], answer: Answer) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({"prompt": "ask", **fields}))
    (request,) = read_logs([str(path)], strict=True)
    assert answer_of(request) == answer
