"""Bodies of requests to the APIs that people use, in all their forms."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from radixcache.errors import LogError
from radixcache.logs import LineRules, LogRequest, read_logs
from radixcache.logs.answer import answer_of
from radixcache.logs.usage import Usage, read_usage

HI = {"role": "user", "content": "hello"}


def read(tmp_path: Path, *records: Any, rules: LineRules | None = None) -> list[LogRequest]:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return list(read_logs([str(path)], strict=True, rules=rules or LineRules()))


def test_functions_are_tools(tmp_path: Path) -> None:
    function = {"name": "look", "parameters": {}}
    (old,) = read(tmp_path, {"messages": [HI], "functions": [function]})
    (new,) = read(tmp_path, {"messages": [HI], "tools": [{"type": "function", "function": function}]})
    assert old.tools == new.tools


def test_what_a_template_is_given_is_kept(tmp_path: Path) -> None:
    body = {
        "messages": [HI],
        "chat_template_kwargs": {"enable_thinking": False},
        "reasoning_effort": "high",
        "documents": [{"title": "a", "text": "b"}],
        "add_generation_prompt": False,
        "continue_final_message": True,
    }
    (request,) = read(tmp_path, body)
    assert request.template_kwargs == {
        "enable_thinking": False,
        **{name: body[name] for name in body if name not in ("messages", "chat_template_kwargs")},
    }


def test_those_who_share_nothing_are_told_apart(tmp_path: Path) -> None:
    (request,) = read(tmp_path, {"prompt": "x", "model": "m", "lora_name": "a", "cache_salt": "s"})
    assert (request.model, request.adapter, request.cache_salt) == ("m", "a", "s")


def png(width: int, height: int) -> str:
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + struct.pack(">II", width, height)
    return "data:image/png;base64," + base64.b64encode(head + bytes(60)).decode()


@pytest.mark.parametrize(
    ("part", "kind", "tokens"),
    [
        ({"type": "image_url", "image_url": {"url": png(512, 512)}}, "image", 255),
        ({"type": "image_url", "image_url": {"url": png(1024, 1024)}}, "image", 765),
        ({"type": "image_url", "image_url": {"url": png(1024, 1024), "detail": "low"}}, "image", 85),
        ({"type": "image_url", "image_url": "https://example.org/a.png", "tokens": 77}, "image", 77),
        ({"type": "input_image", "image_url": "https://example.org/a.png"}, "image", 765),
        ({"type": "input_audio", "input_audio": {"data": "UklGR", "format": "wav"}}, "audio", 1),
        ({"type": "file", "file": {"file_id": "file-1"}}, "file", 1),
    ],
    ids=str,
)
def test_what_is_no_text_is_a_run_of_tokens(
    tmp_path: Path, part: dict[str, Any], kind: str, tokens: int
) -> None:
    (request,) = read(
        tmp_path, {"messages": [{"role": "user", "content": [part, {"type": "text", "text": "?"}]}]}
    )
    assert request.messages is not None
    media, text = request.messages[0]["content"]
    assert (media["type"], media["media"], media["tokens"]) == ("media", kind, tokens)
    assert text == {"type": "text", "text": "?"}


def test_the_same_image_has_the_same_digest_and_another_does_not(tmp_path: Path) -> None:
    def digest(url: str) -> str:
        content = [{"type": "image_url", "image_url": {"url": url}}]
        (request,) = read(tmp_path, {"messages": [{"role": "user", "content": content}]})
        assert request.messages is not None
        return str(request.messages[0]["content"][0]["digest"])

    assert digest(png(64, 64)) == digest(png(64, 64)) != digest(png(64, 65))


def test_a_turn_that_only_refused_or_spoke_is_read(tmp_path: Path) -> None:
    messages = [
        HI,
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "assistant", "content": None, "audio": {"id": "a1", "transcript": "Well."}},
        HI,
    ]
    (request,) = read(tmp_path, {"messages": messages, "model": "m"})
    assert request.messages is not None
    assert request.messages[1]["content"] == "No."
    assert request.messages[2]["content"] == [{"type": "text", "text": "Well."}]


def test_each_answer_of_a_training_example_was_a_request(tmp_path: Path) -> None:
    turns = [HI, {"role": "assistant", "content": "a"}, HI, {"role": "assistant", "content": "b"}]
    first, second = read(tmp_path, {"messages": turns})
    assert (first.messages, second.messages) == (turns[:1], turns[:3])
    assert (answer_of(first).text, answer_of(second).text) == ("a", "b")
    assert first.session == second.session is not None
    (one,) = read(tmp_path, {"messages": turns, "model": "m", "max_tokens": 4})
    assert one.messages == turns


def test_responses_with_calls_and_reasoning(tmp_path: Path) -> None:
    items = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "ok"},
    ]
    (request,) = read(tmp_path, {"model": "m", "input": items, "reasoning": {"effort": "low"}})
    assert request.messages is not None
    user, assistant, tool = request.messages
    assert user["role"] == "user"
    assert (assistant["role"], assistant["reasoning_content"]) == ("assistant", "hm")
    assert assistant["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert (tool["role"], tool["content"]) == ("tool", "ok")
    assert request.template_kwargs == {"reasoning_effort": "low"}


def test_a_previous_response_brings_its_whole_conversation(tmp_path: Path) -> None:
    answer = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "A."}]}
    first = {"input": "a", "instructions": "Be brief.", "response": {"id": "r1", "output": [answer]}}
    second = {
        "input": "b",
        "instructions": "Be kind.",
        "previous_response_id": "r1",
        "response": {"id": "r2", "output": [answer]},
    }
    third = {"input": "c", "previous_response_id": "r2"}
    *_, last = read(tmp_path, first, second, third)
    assert last.messages is not None
    assert [m["role"] for m in last.messages] == ["user", "assistant", "user", "assistant", "user"]
    with pytest.raises(LogError, match="previous_response_id is 'r9'"):
        read(tmp_path, {"input": "c", "previous_response_id": "r9"})


def test_gemini(tmp_path: Path) -> None:
    body = {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {
                "role": "user",
                "parts": [{"text": "a"}, {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}],
            },
            {
                "role": "model",
                "parts": [{"text": "hm", "thought": True}, {"functionCall": {"name": "f", "args": {}}}],
            },
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"x": 1}}}]},
        ],
        "tools": [{"functionDeclarations": [{"name": "f"}]}],
        "generationConfig": {"maxOutputTokens": 9},
        "response": {
            "candidates": [{"content": {"role": "model", "parts": [{"text": "done"}]}}],
            "usageMetadata": {
                "promptTokenCount": 50,
                "cachedContentTokenCount": 30,
                "candidatesTokenCount": 2,
            },
        },
    }
    (request,) = read(tmp_path, body)
    assert request.messages is not None
    assert [m["role"] for m in request.messages] == ["system", "user", "assistant", "tool"]
    assert request.messages[1]["content"][1]["media"] == "image"
    assert request.messages[2]["reasoning_content"] == "hm"
    assert request.tools == [{"type": "function", "function": {"name": "f"}}]
    assert request.max_tokens == 9
    assert request.usage == Usage(50, 30, None, None, 2)
    assert answer_of(request).text == "done"
    with pytest.raises(LogError, match="cachedContent stands for text"):
        read(tmp_path, {**body, "cachedContent": "cachedContents/1"})


def test_bedrock(tmp_path: Path) -> None:
    body = {
        "modelId": "m",
        "system": [{"text": "Be brief."}, {"cachePoint": {"type": "default", "ttl": "1h"}}],
        "messages": [
            {"role": "user", "content": [{"text": "a"}]},
            {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t", "name": "f", "input": {}}}]},
            {
                "role": "user",
                "content": [{"toolResult": {"toolUseId": "t", "content": [{"json": {"x": 1}}]}}],
            },
        ],
        "toolConfig": {"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {}}}}]},
        "inferenceConfig": {"maxTokens": 5},
    }
    (request,) = read(tmp_path, body)
    assert request.messages is not None
    assert [m["role"] for m in request.messages] == ["system", "user", "assistant", "tool"]
    assert request.messages[0]["content"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert request.tools == [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    assert (request.max_tokens, request.model) == (5, "m")


def test_ollama_generate_is_a_conversation_unless_raw(tmp_path: Path) -> None:
    body = {"model": "m", "prompt": "a", "system": "Be brief.", "options": {"num_predict": 7}}
    (request,) = read(tmp_path, body)
    assert request.messages == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a"}]
    assert request.max_tokens == 7
    (raw,) = read(tmp_path, {**body, "raw": True})
    assert raw.prompt == "a"


def test_a_list_of_records_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    for text in (
        json.dumps([{"prompt": "a"}, {"prompt": "b"}]),
        json.dumps([{"prompt": "a"}, {"prompt": "b"}], indent=1),
    ):
        path.write_text(text)
        assert [r.prompt for r in read_logs([str(path)], strict=True)] == ["a", "b"]


def test_fields_of_other_names_can_be_named(tmp_path: Path) -> None:
    record = {"query": {"text": "hello"}, "who": {"id": 7}, "at": 1_700_000_000_000}
    rules = LineRules(prompt_field="query.text", session_field="who.id", time_field="at")
    (request,) = read(tmp_path, record, rules=rules)
    assert (request.prompt, request.session, request.timestamp) == ("hello", "7", 1_700_000_000.0)
    with pytest.raises(LogError, match="is of no known format: it has query, who, at"):
        read(tmp_path, record)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1_795_182_379_963_000_000, 1_795_182_379.963),
        ("1795182379963000000", 1_795_182_379.963),
        (1_795_182_379_963, 1_795_182_379.963),
        ("2026-11-20T13:46:19.963Z", 1_795_182_379.963),
        ("2026-11-20 13:46:19.963", 1_795_182_379.963),
    ],
)
def test_times_of_any_unit(tmp_path: Path, value: Any, seconds: float) -> None:
    (request,) = read(tmp_path, {"prompt": "x", "timestamp": value})
    assert request.timestamp == pytest.approx(seconds, abs=1e-3)


def test_a_unit_can_be_stated(tmp_path: Path) -> None:
    (request,) = read(tmp_path, {"prompt": "x", "timestamp": 2500}, rules=LineRules(time_unit="ms"))
    assert request.timestamp == 2.5


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            {"prompt_tokens": 1200, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1024}},
            Usage(1200, 1024, None, None, 2),
        ),
        (
            {"input_tokens": 1200, "input_tokens_details": {"cached_tokens": 1024}, "output_tokens": 2},
            Usage(1200, 1024, None, None, 2),
        ),
        (
            {
                "input_tokens": 3,
                "cache_read_input_tokens": 10,
                "cache_creation_input_tokens": 5,
                "output_tokens": 2,
            },
            Usage(18, 10, 5, None, 2),
        ),
        (
            {
                "input_tokens": 3,
                "cache_read_input_tokens": 10,
                "cache_creation_input_tokens": 5,
                "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 4},
                "output_tokens": 2,
            },
            Usage(18, 10, 1, 4, 2),
        ),
        (
            {"prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36, "completion_tokens": 2},
            Usage(100, 64, None, None, 2),
        ),
        ({"prompt_tokens": 10, "cached_tokens": 4, "completion_tokens": 1}, Usage(10, 4, None, None, 1)),
        (
            {
                "promptTokenCount": 50,
                "cachedContentTokenCount": 30,
                "candidatesTokenCount": 2,
                "thoughtsTokenCount": 3,
            },
            Usage(50, 30, None, None, 5),
        ),
        (
            {"inputTokens": 5, "cacheReadInputTokens": 7, "cacheWriteInputTokens": 2, "outputTokens": 1},
            Usage(14, 7, 2, None, 1),
        ),
        (
            {
                "inputTokens": 5,
                "cacheReadInputTokens": 7,
                "cacheDetails": [{"ttl": "5m", "inputTokens": 2}, {"ttl": "1h", "inputTokens": 3}],
                "outputTokens": 1,
            },
            Usage(17, 7, 2, 3, 1),
        ),
        (
            {
                "input_tokens": 20,
                "input_token_details": {"cache_read": 10, "cache_creation": 5},
                "output_tokens": 1,
            },
            Usage(20, 10, 5, None, 1),
        ),
        (
            {"total_input_tokens": 9, "total_cached_tokens": 4, "total_output_tokens": 1},
            Usage(9, 4, None, None, 1),
        ),
        ({"something": 1}, None),
        (None, None),
    ],
    ids=lambda value: "" if isinstance(value, Usage) else None,
)
def test_usage_of_any_provider(usage: Any, expected: Usage | None) -> None:
    assert read_usage(usage) == expected
