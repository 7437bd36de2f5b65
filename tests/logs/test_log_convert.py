"""Logs in another form hold the same requests."""

from __future__ import annotations

import json
from array import array
from pathlib import Path

import pytest

from radixcache.logs import LogRequest, read_logs
from radixcache.logs.canonical import as_record
from radixcache.logs.convert import TraceWriter, as_openai

SAMPLES = Path(__file__).parent / "samples"
_NO_TEXT = ("mooncake", "bailian", "kvcache_simulator")
TEXT = sorted(
    path
    for path in SAMPLES.iterdir()
    if path.stem not in ("mooncake", "bailian", "kvcache_simulator")
    and not path.stem.endswith("batch_output")
)


def read(path: Path) -> list[LogRequest]:
    return list(read_logs([str(path)], strict=True, trace_block=512))


@pytest.mark.parametrize("sample", TEXT, ids=lambda path: path.stem)
def test_a_record_reads_back_as_the_same_request(sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    requests = read(sample)
    path.write_text("".join(json.dumps(as_record(request)) + "\n" for request in requests))
    again = read(path)
    assert len(again) == len(requests) > 0
    for before, after in zip(requests, again, strict=True):
        for field in ("messages", "tools", "prompt", "prompt_token_ids", "session", "timestamp", "model"):
            assert getattr(after, field) == getattr(before, field), field


@pytest.mark.parametrize("sample", TEXT, ids=lambda path: path.stem)
def test_a_chat_completion_has_the_same_prompt(sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    requests = read(sample)
    lines = [json.dumps(as_openai(request, number)) for number, request in enumerate(requests)]
    path.write_text("\n".join(lines))
    for before, after in zip(requests, read(path), strict=True):
        assert (after.messages, after.tools, after.prompt) == (before.messages, before.tools, before.prompt)
        assert after.prompt_token_ids == before.prompt_token_ids


def test_a_trace_tells_which_blocks_are_the_same_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    prompts = [[1, 2, 3, 4, 5], [1, 2, 3, 4, 6], [1, 2, 9, 9], [1, 2, 3, 4, 5]]
    path.write_text(
        "".join(
            json.dumps({"prompt_token_ids": ids, "session_id": f"secret-{n}", "timestamp": 1000 + n}) + "\n"
            for n, ids in enumerate(prompts)
        )
    )
    writer = TraceWriter(2, lambda entry: array("i", entry.prompt_token_ids or []))
    lines = [writer.line(entry, "") for entry in read(path)]
    assert [line["hash_ids"] for line in lines] == [[0, 1, 2], [0, 1, 3], [0, 4], [0, 1, 2]]
    assert [line["timestamp"] for line in lines] == [0.0, 1.0, 2.0, 3.0]
    assert "secret" not in json.dumps(lines)
    trace = tmp_path / "trace.jsonl"
    trace.write_text("".join(json.dumps(line) + "\n" for line in lines))
    again = read(trace)
    assert [r.blocks and r.blocks.prompt_tokens for r in again] == [5, 5, 4, 5]
    assert [r.timestamp for r in again] == [0.0, 1.0, 2.0, 3.0]


def test_namespaces_share_no_block_in_a_trace(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({"prompt_token_ids": [1, 2]}))
    (entry,) = read(path)
    writer = TraceWriter(2, lambda entry: array("i", entry.prompt_token_ids or []))
    first, other, again = (writer.line(entry, name)["hash_ids"] for name in ("a", "b", "a"))
    assert first == again != other
