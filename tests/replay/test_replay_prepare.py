"""Requests in the order and namespace in which they will be submitted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from radixcache.errors import LogError
from radixcache.logs import read_logs
from radixcache.prompts.encode import PromptEncoder
from radixcache.replay.prepare import ReplayRequest, prepare
from radixcache.replay.settings import ReplaySettings


def prepared(tmp_path: Path, records: list[dict[str, Any]], **settings: Any) -> list[ReplayRequest]:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps({"prompt_ids": [7], **record}) + "\n" for record in records))
    return prepare(read_logs([str(path)], strict=True), PromptEncoder(None, "m"), ReplaySettings(**settings))


def test_log_order_is_kept_by_default(tmp_path: Path) -> None:
    requests = prepared(tmp_path, [{"prompt_ids": [n], "session": n % 2} for n in range(4)])
    assert [(r.index, r.line, r.tokens.tolist(), r.session) for r in requests] == [
        (0, 1, [0], "0"),
        (1, 2, [1], "1"),
        (2, 3, [2], "0"),
        (3, 4, [3], "1"),
    ]


def test_max_tokens_is_capped_and_defaulted(tmp_path: Path) -> None:
    requests = prepared(tmp_path, [{"max_tokens": 3}, {"max_tokens": 300}, {}], max_tokens=20)
    assert [r.max_tokens for r in requests] == [3, 20, 20]


def test_interleaved_requests_are_numbered_in_their_new_order(tmp_path: Path) -> None:
    records = [{"session": s} for s in "aabb"]
    requests = prepared(tmp_path, records, interleave=2)
    assert [(r.index, r.line) for r in requests] == [(0, 1), (1, 3), (2, 2), (3, 4)]


def test_timestamps_order_the_requests(tmp_path: Path) -> None:
    requests = prepared(tmp_path, [{"timestamp": t} for t in (30, 10, 20, 10)], arrivals="timestamps")
    assert [(r.index, r.line, r.timestamp) for r in requests] == [
        (0, 2, 10),
        (1, 4, 10),
        (2, 3, 20),
        (3, 1, 30),
    ]


def test_missing_timestamp_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"log\.jsonl, line 2: timestamp is missing"):
        prepared(tmp_path, [{"timestamp": 1}, {}], arrivals="timestamps")


def test_namespace_by_a_dotted_field(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [
        {"user": {"org": "a"}},
        {"user": {"org": 5}},
        {"user": {}},
        {"user": "x"},
        {"user": {"org": None}},
    ]
    requests = prepared(tmp_path, records, namespace_by="user.org")
    assert [r.namespace for r in requests] == ["a", "5", "", "", ""]


def test_namespace_field_found_nowhere_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="no request has the field tennant"):
        prepared(tmp_path, [{"tenant": "a"}], namespace_by="tennant")


def test_namespace_field_that_is_no_value_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"line 1: user is an object, which cannot be a namespace"):
        prepared(tmp_path, [{"user": {"org": "a"}}], namespace_by="user")


def test_request_that_cannot_be_encoded_keeps_its_place(tmp_path: Path) -> None:
    class Refuses:
        chat_template = "{{ raise_exception('no') }}"

    path = tmp_path / "log.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "a"}]}\n{"prompt_ids": [1]}\n')
    first, second = prepare(read_logs([str(path)]), PromptEncoder(Refuses(), "m"), ReplaySettings())
    assert first.error == "the chat template of m refused the messages: no"
    assert first.tokens.tolist() == []
    assert second.error is None


def test_nothing_to_replay_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="no request to replay"):
        prepared(tmp_path, [])


def test_progress_counts_up(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"prompt_ids": [1]}\n' * 3)
    told: list[int] = []
    prepare(read_logs([str(path)]), PromptEncoder(None, "m"), ReplaySettings(), told.append)
    assert told == [1, 2, 3]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cache": "maybe"}, "cache must be one of on, off, compare, got 'maybe'"),
        ({"arrivals": "poisson"}, "arrivals must be one of closed, timestamps, got 'poisson'"),
        ({"max_tokens": 0}, "max_tokens must be at least 1, got 0"),
        ({"concurrency": 0}, "concurrency must be at least 1, got 0"),
        ({"interleave": 0}, "interleave must be at least 1, got 0"),
        ({"speed": 0.0}, "speed must be above 0, got 0"),
        ({"speed": float("nan")}, "speed must be above 0, got nan"),
        ({"arrivals": "timestamps", "interleave": 2}, "interleave reorders the log"),
        ({"namespace_by": "a..b"}, r"namespace_by must be a field name or a dotted path, got 'a\.\.b'"),
    ],
)
def test_settings_name_what_is_wrong(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReplaySettings(**settings)
