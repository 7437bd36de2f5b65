"""A line that is no request is reported with file, line and reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from radixcache.errors import LogError
from radixcache.logs import BadLine, read_logs
from radixcache.logs import source as log_source

GOOD = b'{"prompt": "x"}'
DEEP = b"[" * 100_000 + b"]" * 100_000


def reason_of(tmp_path: Path, line: bytes) -> str:
    path = tmp_path / "log.jsonl"
    path.write_bytes(GOOD + b"\n" + line + b"\n" + GOOD + b"\n")
    bad: list[BadLine] = []
    requests = list(read_logs([str(path)], on_bad_line=bad.append))
    assert [request.line for request in requests] == [1, 3]
    (only,) = bad
    assert (only.source, only.line) == (str(path), 2)
    with pytest.raises(LogError) as error:
        list(read_logs([str(path)], strict=True))
    assert str(error.value) == f"{path}, line 2: {only.reason}" == str(only)
    return only.reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"prompt": "x"', "not JSON: Expecting ',' delimiter at column 15"),
        (b"hello", "not JSON: Expecting value at column 1"),
        (b'{"prompt": "\xff"}', "not UTF-8: byte 12 is 0xff"),
        (b'{"prompt": "\xed\xa0\x80"}', "not UTF-8: byte 12 is 0xed"),
        ('{"prompt": "x"}'.encode("utf-16"), "not UTF-8: byte 0 is 0xff"),
        (b'{"prompt": "a\x00b"}', "not JSON: Invalid control character at column 14"),
        (b'["prompt"]', "is a list, not an object"),
        (b"12", "is 12, not an object"),
        (DEEP, "not JSON: nested too deeply"),
        (b'{"prompt": "\\ud800"}', "contains half a surrogate pair (\\ud800)"),
        (b'{"text": "x"}', "is of no known format: it has text"),
        (b'{"messages": null}', "is of no known format: it has messages"),
        (b"{}", "is of no known format: it has no field"),
        (b'{"messages": {}}', "messages is an object, not a list"),
        (b'{"messages": []}', "messages is empty"),
        (b'{"messages": ["x"]}', "messages[0] is a string, not an object"),
        (
            b'{"messages": [{"role": "user", "content": "a"}, {"content": "b"}]}',
            "messages[1].role is missing",
        ),
        (b'{"messages": [{"role": 1, "content": "b"}]}', "messages[0].role is 1, not a string"),
        (b'{"messages": [{"role": "user"}]}', "messages[0].content is missing"),
        (
            b'{"messages": [{"role": "user", "content": 5}]}',
            "messages[0].content is 5, not text, null or a list of parts",
        ),
        (
            b'{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}',
            "messages[0].content[0] is of type image without content: nothing says which it is",
        ),
        (
            b'{"messages": [{"role": "user", "content": [{"type": "hologram", "x": "y"}]}]}',
            "messages[0].content[0] is of type hologram, which is neither text nor an image, audio or file",
        ),
        (
            b'{"messages": [{"role": "assistant", "content": null, "tool_calls": {}}]}',
            "messages[0].tool_calls is an object, not a list",
        ),
        (
            b'{"messages": [{"role": "assistant", "content": null, "tool_calls": ["f"]}]}',
            "messages[0].tool_calls[0] is a string, not an object",
        ),
        (b'{"messages": [{"role": "user", "content": "a"}], "tools": "f"}', "tools is a string, not a list"),
        (b'{"messages": [{"role": "user", "content": "a"}], "tools": [1]}', "tools[0] is 1, not an object"),
        (b'{"prompt": ""}', "prompt is empty"),
        (b'{"prompt": 3.5}', "prompt is 3.5, not text"),
        (b'{"prompt": ["a", "b"]}', "prompt is a list of prompts; one request a line is read"),
        (b'{"prompt_token_ids": "1 2"}', "prompt_token_ids is a string, not a list"),
        (b'{"prompt_token_ids": []}', "prompt_token_ids is empty"),
        (b'{"prompt_token_ids": [0, 1, 2, 3, -3]}', "prompt_token_ids[4] is -3, outside 0 to 2147483647"),
        (b'{"prompt_ids": [2147483648]}', "prompt_ids[0] is 2147483648, outside 0 to 2147483647"),
        (b'{"prompt_token_ids": [1, true]}', "prompt_token_ids[1] is a boolean, not an integer"),
        (b'{"prompt_token_ids": [1, 2.0]}', "prompt_token_ids[1] is 2, not an integer"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_reason(tmp_path: Path, line: bytes, reason: str) -> None:
    assert reason_of(tmp_path, line) == reason


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"session": [1]}, "the session is a list, and is taken as absent"),
        ({"timestamp": "soon"}, "the time of a request cannot be read and is taken as absent"),
        ({"timestamp": -1}, "the time of a request cannot be read and is taken as absent"),
        ({"timestamp": float("nan")}, "the time of a request cannot be read and is taken as absent"),
        ({"timestamp": True}, "the time of a request cannot be read and is taken as absent"),
        ({"max_tokens": 1.5}, "max_tokens is not a number of tokens and is taken as absent"),
        ({"max_tokens": [5]}, "max_tokens is not a number of tokens and is taken as absent"),
    ],
    ids=str,
)
def test_an_odd_field_that_no_prompt_needs_is_absent_with_a_note(
    tmp_path: Path, fields: dict[str, object], note: str
) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({"prompt": "x", **fields}))
    (request,) = read_logs([str(path)], strict=True)
    assert request.notes == (note,)
    assert (request.session, request.timestamp, request.max_tokens) == (None, None, None)


@pytest.mark.parametrize(("value", "limit"), [(0, None), (-1, None), (None, None), (7.0, 7), ("12", 12)])
def test_limits_as_servers_take_them(tmp_path: Path, value: object, limit: int | None) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({"prompt": "x", "max_tokens": value}))
    (request,) = read_logs([str(path)], strict=True)
    assert (request.max_tokens, request.notes) == (limit, ())


def test_number_of_too_many_digits(tmp_path: Path) -> None:
    assert reason_of(tmp_path, b'{"prompt": "x", "timestamp": ' + b"1" * 5000 + b"}").startswith("not JSON: ")
    assert reason_of(tmp_path, b'{"prompt_ids": [' + b"1" * 400 + b"]}") == (
        "prompt_ids[0] is a number of more than 20 digits, outside 0 to 2147483647"
    )


def test_truncated_last_line_is_a_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(GOOD + b"\n" + GOOD[:-3])
    bad: list[BadLine] = []
    assert len(list(read_logs([str(path)], on_bad_line=bad.append))) == 1
    assert [(b.line, b.reason) for b in bad] == [(2, "not JSON: Unterminated string starting at column 12")]


def test_whole_last_line_without_a_line_end_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(GOOD + b"\r\n" + GOOD)
    assert [request.line for request in read_logs([str(path)], strict=True)] == [1, 2]


def test_blank_lines_count_as_lines_but_not_as_bad(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\n  \n" + GOOD + b"\n\n")
    assert [request.line for request in read_logs([str(path)], strict=True)] == [3]


def test_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD)
    assert len(list(read_logs([str(path)], strict=True))) == 1


def test_overlong_line_is_skipped_and_the_next_ones_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_source, "MAX_LINE_BYTES", 100)
    long = json.dumps({"prompt": "y" * 250}).encode()
    assert reason_of(tmp_path, long).startswith("longer than ")


def test_limit_counts_good_requests_over_all_files(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"bad\n" + GOOD + b"\n" + GOOD + b"\n")
    assert [request.line for request in read_logs([str(path)] * 2, limit=3)] == [2, 3, 2]


@pytest.mark.parametrize("limit", [0, -1])
def test_limit_below_one_is_refused_at_the_call(limit: int) -> None:
    with pytest.raises(ValueError, match=f"limit must be at least 1, got {limit}"):
        read_logs(["x"], limit=limit)


def test_a_bad_record_of_a_list_harms_none_of_the_others(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text(json.dumps([{"prompt": "a"}, {"prompt": ""}, 5, {"prompt": "b"}]))
    bad: list[BadLine] = []
    assert [request.prompt for request in read_logs([str(path)], on_bad_line=bad.append)] == ["a", "b"]
    assert [b.reason for b in bad] == ["prompt is empty", "is 5, not an object"]


def test_a_bad_answer_at_the_end_of_a_transcript_is_a_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "session.jsonl"
    said = {"role": "assistant", "id": "m", "content": [{"type": "hologram"}]}
    lines = [
        {"sessionId": "s", "uuid": "1", "type": "user", "message": {"role": "user", "content": "hi"}},
        {"sessionId": "s", "uuid": "2", "type": "assistant", "message": said},
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    bad: list[BadLine] = []
    assert list(read_logs([str(path)], on_bad_line=bad.append)) == []
    assert [(b.line, b.reason) for b in bad] == [
        (2, "message.content[0] is of type hologram, which is not known")
    ]
