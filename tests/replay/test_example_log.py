"""The example log is what its generator writes, and shows what it is meant to show."""

from __future__ import annotations

import runpy
import shutil
from collections import Counter
from pathlib import Path

import pytest

from radixcache.logs import LogRequest, read_logs

FOLDER = Path(__file__).parents[2] / "examples" / "logs"


@pytest.fixture(scope="module")
def requests() -> list[LogRequest]:
    return list(read_logs([str(FOLDER / "assistant.jsonl")], strict=True))


def test_generator_writes_this_very_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(FOLDER / "source", tmp_path / "source")
    shutil.copy(FOLDER / "make_assistant_log.py", tmp_path)
    runpy.run_path(str(tmp_path / "make_assistant_log.py"), run_name="__main__")
    assert (tmp_path / "assistant.jsonl").read_bytes() == (FOLDER / "assistant.jsonl").read_bytes()
    assert "requests in" in capsys.readouterr().out


def test_size_and_variety(requests: list[LogRequest]) -> None:
    assert len(requests) >= 60
    turns = Counter(request.session for request in requests)
    assert sum(count > 1 for count in turns.values()) >= 8
    assert {request.raw["tenant"] for request in requests} == {"leeds", "york"}
    assert all(request.timestamp is not None and request.max_tokens for request in requests)
    assert [request.timestamp for request in requests] == sorted(
        request.timestamp or 0 for request in requests
    )
    systems = {request.messages[0]["content"] for request in requests if request.messages}
    assert len(systems) >= 5


def test_tools_and_calls_with_null_content(requests: list[LogRequest]) -> None:
    messages = [message for request in requests for message in request.messages or []]
    assert any(message["content"] is None and message["tool_calls"] for message in messages)
    assert any(message["role"] == "tool" for message in messages)
    assert sum(request.tools is not None for request in requests) >= 30


def test_every_turn_extends_the_one_before(requests: list[LogRequest]) -> None:
    last: dict[str | None, LogRequest] = {}
    extended = 0
    for request in requests:
        before = last.get(request.session)
        if before is not None:
            assert before.messages is not None
            assert request.messages is not None
            known = [*before.messages, before.response]
            assert request.messages[: len(known)] == known
            extended += 1
        last[request.session] = request
    assert extended >= 40


def test_some_prompts_begin_with_the_time_and_some_list_tools_in_another_order(
    requests: list[LogRequest],
) -> None:
    starts = {request.messages[0]["content"][:40] for request in requests if request.messages}
    assert sum(start.startswith("It is Tuesday, 03 March 2026, 08:4") for start in starts) >= 4
    orders = {tuple(t["function"]["name"] for t in request.tools) for request in requests if request.tools}
    assert len(orders) >= 4
    assert len({tuple(sorted(order)) for order in orders}) == 1
