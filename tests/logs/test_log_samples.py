"""One line of every format that people have, read without being told what it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from radixcache.logs import LogRequest, read_logs
from radixcache.logs.usage import Usage

SAMPLES = Path(__file__).parent / "samples"
HELPFUL = {"role": "system", "content": "You are helpful."}
HI = {"role": "user", "content": "Hi"}
TOOL = {
    "type": "function",
    "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}},
}
CACHED = Usage(1200, 1024, 128, None, 2)


def read(*names: str) -> list[LogRequest]:
    return list(read_logs([str(SAMPLES / name) for name in names], strict=True, trace_block=512))


def plain(messages: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """Messages with their content as text."""
    made = []
    for message in messages or []:
        content = message["content"]
        if isinstance(content, list):
            content = "".join(part["text"] for part in content)
        made.append({"role": message["role"], "content": content})
    return made


@pytest.mark.parametrize(
    ("name", "format_name", "messages", "tools", "session", "usage"),
    [
        ("openai_batch_input.jsonl", "batch", [HELPFUL, HI], [TOOL], None, None),
        ("openai_responses_request.jsonl", "requests", [HELPFUL, HI], [TOOL], None, None),
        ("openai_stored_completion.jsonl", "stored completions", [HI], [TOOL], None, CACHED),
        ("helicone_export.jsonl", "helicone", [HELPFUL, HI], None, "s1", CACHED),
        ("litellm_spendlogs.jsonl", "litellm", [HELPFUL, HI], [TOOL], "s1", CACHED),
        ("litellm_standard_logging_payload.jsonl", "litellm", [HELPFUL, HI], [TOOL], "s1", CACHED),
        ("langsmith_run.jsonl", "langsmith", [HI], [TOOL], "s1", CACHED),
        ("otel_genai_span.jsonl", "opentelemetry", [HELPFUL, HI], [TOOL], "s1", CACHED),
        ("openpipe.jsonl", "openpipe", [HELPFUL, HI], [TOOL], None, CACHED),
        (
            "sagemaker_data_capture.jsonl",
            "sagemaker",
            [HELPFUL, HI],
            None,
            None,
            Usage(12, None, None, None, 8),
        ),
        ("sglang_request_log_json.jsonl", "sglang", [HELPFUL, HI], None, None, None),
        ("sharegpt.jsonl", "sharegpt", [HI], None, "c1", None),
    ],
)
def test_requests(
    name: str,
    format_name: str,
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None,
    session: str | None,
    usage: Usage | None,
) -> None:
    (request,) = read(name)
    assert request.format == format_name
    assert plain(request.messages) == messages
    assert request.tools == tools
    assert (request.session, request.usage, request.notes) == (session, usage, ())


def test_langfuse_counts_each_token_under_one_name() -> None:
    (request,) = read("langfuse_observations_v2.jsonl")
    assert plain(request.messages) == [HELPFUL, HI]
    assert request.tools == [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": {}}}
    ]
    assert (request.session, request.usage) == ("s1", Usage(1200, 1024, None, None, 2))
    assert request.timestamp == 1795182379.963


@pytest.mark.parametrize("name", ["anthropic_request.jsonl", "anthropic_batch_input.jsonl"])
def test_anthropic_has_its_system_prompt_tools_and_marks(name: str) -> None:
    (request,) = read(name)
    system, user, assistant, result = request.messages or []
    mark = {"type": "ephemeral", "ttl": "1h"}
    assert system == {
        "role": "system",
        "content": [{"type": "text", "text": "You are helpful.", "cache_control": mark}],
    }
    assert plain([user]) == [HI]
    assert assistant["tool_calls"] == [
        {"id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ]
    assert (result["role"], result["tool_call_id"], plain([result])[0]["content"]) == (
        "tool",
        "toolu_1",
        "ok",
    )
    assert request.tools == [TOOL]


def test_answers_of_a_batch_join_their_requests_in_either_order_of_files() -> None:
    for names in (
        ("openai_batch_input.jsonl", "openai_batch_output.jsonl"),
        ("openai_batch_output.jsonl", "openai_batch_input.jsonl"),
    ):
        (request,) = read(*names)
        assert request.usage == CACHED
    (request,) = read("anthropic_batch_input.jsonl", "anthropic_batch_output.jsonl")
    assert request.usage == Usage(1203, 1200, 0, 0, 2)


def test_aiperf_counts_milliseconds_and_delays() -> None:
    first, second = read("aiperf_mooncake_messages.jsonl")
    assert (first.timestamp, second.timestamp, first.session, second.session) == (1.0, 3.0, "s1", "s1")
    assert plain(first.messages) == plain(second.messages) == [HELPFUL, HI]
    assert (first.max_tokens, second.max_tokens) == (4, 50)


@pytest.mark.parametrize(
    ("name", "block", "length", "output", "seconds"),
    [
        ("mooncake.jsonl", 512, 1200, 40, 1.0),
        ("bailian.jsonl", 16, 40, 80, 62.5),
        ("kvcache_simulator.jsonl", 64, 128, 10, 1.5),
    ],
)
def test_traces(name: str, block: int, length: int, output: int, seconds: float) -> None:
    (request,) = read(name)
    blocks = request.blocks
    assert blocks is not None
    assert (blocks.block_tokens, blocks.prompt_tokens, blocks.output_tokens) == (block, length, output)
    assert request.timestamp == seconds


def test_a_claude_code_session_has_exact_usage_and_says_that_its_prompts_are_partial() -> None:
    (request,) = read("claude_code_session.jsonl")
    assert plain(request.messages) == [{"role": "user", "content": "hi"}]
    assert request.usage == Usage(10505, 10000, 0, 500, 20)
    assert "system prompt" in request.partial
    assert request.session == "s1"


def test_a_codex_rollout_likewise() -> None:
    (request,) = read("codex_rollout.jsonl")
    assert plain(request.messages) == [{"role": "user", "content": "hi"}]
    assert request.usage == Usage(20767, 11136, None, None, 463)
    assert (request.session, request.model) == ("s1", "gpt-6-sol")
    assert request.partial


def test_vllm_tells_token_ids() -> None:
    (request,) = read("vllm_request_log.log")
    assert request.prompt_token_ids == [1, 4093, 2]


def _records() -> list[tuple[str, dict[str, Any]]]:
    return [
        (path.name, json.loads(line))
        for path in sorted(SAMPLES.glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]


# Where these say nothing of a request there is nothing to tell about it.
_NO_REQUEST = ("openai_batch_output.jsonl", "anthropic_batch_output.jsonl")
_TEXT = [{"title": "", "body": "Text that a model reads."}]


@pytest.mark.parametrize(("name", "record"), _records(), ids=lambda v: v if isinstance(v, str) else "")
def test_text_under_an_unknown_field_is_never_dropped_silently(
    tmp_path: Path, name: str, record: dict[str, Any]
) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({**record, "retrieved_passages": _TEXT}))
    bad: list[Any] = []
    found = list(read_logs([str(path)], trace_block=512, on_bad_line=bad.append))
    notes = [note for request in found for note in request.notes]
    told = any("retrieved_passages" in note for note in notes)
    partial = any(request.partial for request in found)
    assert told or partial or name in _NO_REQUEST or not found


@pytest.mark.parametrize(
    "wrap",
    [
        lambda body: body,
        lambda body: {"custom_id": "1", "body": body},
        lambda body: {"custom_id": "1", "params": body},
        lambda body: {"request_body": json.dumps(body)},
        lambda body: {"call_type": "completion", "proxy_server_request": body},
        lambda body: {"type": "GENERATION", "trace_id": "t", "input": body},
        lambda body: {"run_type": "llm", "inputs": body},
        lambda body: {"input": body, "output": {}},
        lambda body: {"captureData": {"endpointInput": {"data": json.dumps(body)}}},
        lambda body: {"event": "request.received", "obj": body},
        lambda body: {"payload": body},
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        {"model": "m", "messages": [HI]},
        {"model": "m", "messages": [HI], "system": "Be brief."},
        {"model": "m", "prompt": "Hi"},
        {"model": "m", "input": "Hi"},
        {"model": "m", "contents": "Hi"},
        {"modelId": "m", "messages": [{"role": "user", "content": [{"text": "Hi"}]}], "inferenceConfig": {}},
    ],
    ids=str,
)
def test_nor_within_the_body_of_a_request(tmp_path: Path, wrap: Any, body: dict[str, Any]) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(wrap({**body, "retrieved_passages": _TEXT})))
    bad: list[Any] = []
    notes = [note for r in read_logs([str(path)], on_bad_line=bad.append) for note in r.notes]
    assert bad or any("retrieved_passages" in note for note in notes)


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "Hi", "preamble": "Read me first."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}], "memory": {"notes": ["Likes tea."]}},
    ],
    ids=str,
)
def test_text_under_an_unknown_field_of_a_message_neither(tmp_path: Path, message: dict[str, Any]) -> None:
    path = tmp_path / "log.jsonl"
    for fields in ({}, {"system": "Be brief."}):
        path.write_text(json.dumps({"model": "m", "messages": [message], **fields}))
        (request,) = read_logs([str(path)], strict=True)
        assert any("messages[]." in note for note in request.notes)
