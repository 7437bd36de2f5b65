"""Traces of block hashes: Mooncake lines and agent sessions, recognised by themselves."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from radixcache.errors import LogError
from radixcache.logs import BadLine, LogRequest, read_logs
from radixcache.logs.folders import expand_folders
from radixcache.tokens import unpack
from radixcache.workload.load import load_workload

MOONCAKE = {"timestamp": 1500, "input_length": 1100, "output_length": 7, "hash_ids": [0, 1, 2]}


def session(*requests: Any, **fields: Any) -> dict[str, Any]:
    return {"id": "trace_1", "block_size": 64, "hash_id_scope": "local", "requests": list(requests), **fields}


def turn(tokens: int, *hash_ids: int | str, t: float = 0.0) -> dict[str, Any]:
    return {"t": t, "type": "n", "model": "m", "in": tokens, "out": 3, "hash_ids": list(hash_ids)}


def write(path: Path, *records: Any) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def read(*paths: str, trace_block: int | None = 512, strict: bool = True) -> list[LogRequest]:
    return list(read_logs(paths, strict=strict, trace_block=trace_block))


def bad(path: str) -> tuple[int, list[str]]:
    lines: list[BadLine] = []
    good = list(read_logs([path], on_bad_line=lines.append, trace_block=512))
    return len(good), [str(line).removeprefix(f"{path}, ") for line in lines]


def no_encoder() -> Any:
    raise AssertionError("a trace needs no tokenizer")


def test_a_mooncake_line_is_hashes_lengths_and_milliseconds(tmp_path: Path) -> None:
    (request,) = read(write(tmp_path / "t.jsonl", {**MOONCAKE, "session_id": 5}))
    assert request.blocks is not None
    assert request.blocks.hash_ids == [0, 1, 2]
    assert request.blocks.block_tokens == 512
    assert (request.blocks.prompt_tokens, request.blocks.output_tokens) == (1100, 7)
    assert (request.timestamp, request.session) == (1.5, "5")
    assert (request.messages, request.prompt, request.prompt_token_ids) == (None, None, None)


def test_another_block_size_of_mooncake_lines(tmp_path: Path) -> None:
    (request,) = read(
        write(tmp_path / "t.jsonl", {"input_length": 40, "hash_ids": ["x", "y", 7]}), trace_block=16
    )
    assert request.blocks is not None
    assert (request.blocks.block_tokens, request.blocks.output_tokens) == (16, 0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"input_length": None, "hash_ids": []}, "input_length is missing"),
        ({"input_length": "9"}, "input_length is a string, not an integer"),
        ({"input_length": 0}, "input_length is 0; at least 1 is needed"),
        ({"input_length": 2**31}, "input_length is 2147483648; fewer than 2147483648 can be read"),
        ({"output_length": -1}, "output_length is -1; at least 0 is needed"),
        ({"hash_ids": 3}, "hash_ids is 3, not a list"),
        ({"hash_ids": [1, True, 2]}, "hash_ids[1] is a boolean, not an integer or a string"),
        ({"hash_ids": [1, 2, 3, 4]}, "hash_ids has 4 blocks of 512 tokens for a prompt of 1100"),
        (
            {"hash_ids": [1, 2]},
            "input_length is 1100, which is not 2 blocks of 512 tokens as hash_ids says",
        ),
    ],
)
def test_a_bad_mooncake_line_is_named_and_skipped(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    path = write(tmp_path / "t.jsonl", MOONCAKE, {**MOONCAKE, **change}, MOONCAKE)
    assert bad(path) == (2, [f"line 2: {reason}"])
    with pytest.raises(LogError, match="line 2: "):
        read(path)


def test_a_session_is_many_requests_with_those_of_subagents_in_place(tmp_path: Path) -> None:
    document = session(
        turn(130, 1, 2),
        {"type": "subagent", "agent_id": "a", "requests": [turn(64, 9, t=4.5), turn(128, 9, 10, t=5.0)]},
        turn(200, 1, 2, 3, t=9.0),
    )
    requests = read(write(tmp_path / "trace.json", document))
    assert [r.blocks.hash_ids for r in requests if r.blocks] == [[1, 2], [9], [9, 10], [1, 2, 3]]
    assert [r.timestamp for r in requests] == [0.0, 4.5, 5.0, 9.0]
    assert {r.session for r in requests} == {"trace_1"}
    assert all(r.blocks and r.blocks.block_tokens == 64 and r.blocks.output_tokens == 3 for r in requests)


def test_a_session_may_be_spread_over_lines_or_share_a_file_with_others(tmp_path: Path) -> None:
    spread = tmp_path / "spread.json"
    spread.write_text("\ufeff\n" + json.dumps(session(turn(64, 1), turn(128, 1, 2)), indent=2))
    assert [(r.line, r.blocks and r.blocks.prompt_tokens) for r in read(str(spread))] == [(2, 64), (2, 128)]
    together = write(tmp_path / "both.jsonl", session(turn(64, 1)), session(turn(64, 1), id="trace_2"))
    assert [r.session for r in read(together)] == ["trace_1", "trace_2"]


def test_bad_requests_of_a_session_are_named_and_the_others_read(tmp_path: Path) -> None:
    document = session(
        turn(64, 1),
        {**turn(64), "hash_ids": [None]},
        "x",
        {"type": "subagent", "requests": [{**turn(10), "in": -1}, turn(64, 2)]},
        {"type": "subagent"},
        turn(10, 1, 2),
    )
    good, reasons = bad(write(tmp_path / "t.json", document))
    assert good == 2
    assert reasons == [
        "line 1: requests[1]: hash_ids[0] is null, not an integer or a string",
        "line 1: requests[2]: is a string, not an object",
        "line 1: requests[3].requests[0]: in is -1; at least 1 is needed",
        "line 1: requests[4].requests: is null, not a list",
        "line 1: requests[5]: hash_ids has 2 blocks of 64 tokens for a prompt of 10",
    ]


def test_bad_documents_are_named(tmp_path: Path) -> None:
    for fields, reason in (
        ({"block_size": 0}, "block_size is 0; at least 1 is needed"),
        ({"hash_id_scope": "here"}, "hash_id_scope is 'here'; local or global is needed"),
    ):
        assert bad(write(tmp_path / "t.json", session(turn(64, 1), **fields))) == (0, [f"line 1: {reason}"])


def test_hashes_are_of_no_use_to_a_replay(tmp_path: Path) -> None:
    for record in (MOONCAKE, session(turn(64, 1))):
        with pytest.raises(LogError, match="can be simulated but not replayed"):
            read(write(tmp_path / "t.jsonl", record), trace_block=None)


def test_what_is_more_exact_wins_over_hashes(tmp_path: Path) -> None:
    (request,) = read(write(tmp_path / "t.jsonl", {**MOONCAKE, "prompt": "text"}))
    assert (request.prompt, request.blocks) == ("text", None)


def test_local_hashes_are_told_apart_and_global_ones_are_not(tmp_path: Path) -> None:
    documents = [session(turn(128, 1, 2), id=f"s{i}") for i in range(2)]
    local = load_workload(read(write(tmp_path / "l.jsonl", *documents)), no_encoder)
    assert [unpack(call.units) for call in local.calls] == [[0, 1], [2, 3]]
    assert [call.namespace for call in local.calls] == ["s0", "s1"]
    shared = [{**document, "hash_id_scope": "global"} for document in documents]
    common = load_workload(read(write(tmp_path / "g.jsonl", *shared)), no_encoder)
    assert [unpack(call.units) for call in common.calls] == [[0, 1], [0, 1]]
    assert {call.namespace for call in common.calls} == {""}


def test_hashes_of_two_mooncake_files_are_told_apart(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.jsonl", MOONCAKE) for i in range(2)]
    calls = load_workload(read(*paths), no_encoder).calls
    assert [unpack(call.units) for call in calls] == [[0, 1, 2], [3, 4, 5]]


def test_tokens_without_a_hash_get_blocks_that_never_come_again(tmp_path: Path) -> None:
    document = session(turn(130, 1, 2), turn(130, 1, 2), turn(200))
    workload = load_workload(read(write(tmp_path / "t.json", document)), no_encoder)
    assert workload.unit_tokens == 64
    assert [unpack(call.units) for call in workload.calls] == [[0, 1, 2], [0, 1, 3], [4, 5, 6, 7]]
    assert [call.prompt_tokens for call in workload.calls] == [130, 130, 200]


def test_units_of_different_sizes_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", MOONCAKE, {"prompt_token_ids": [1]})
    with pytest.raises(LogError, match=r"line 2: a prompt, but .*line 1 has hashes of blocks of 512 tokens"):
        load_workload(read(path), no_encoder)


def test_a_folder_stands_for_its_logs_in_order_of_name(tmp_path: Path) -> None:
    (tmp_path / "deep" / ".hidden").mkdir(parents=True)
    for name in ("b.json", "a.jsonl", "notes.txt", ".c.json", "deep/d.json", "deep/.hidden/e.json"):
        (tmp_path / name).write_text("{}")
    with gzip.open(tmp_path / "z.jsonl.gz", "wt") as file:
        file.write(json.dumps(MOONCAKE) + "\n")
    expected = [str(tmp_path / name) for name in ("a.jsonl", "b.json", "deep/d.json", "z.jsonl.gz")]
    assert expand_folders(["-", str(tmp_path), "gone.json"]) == ["-", *expected, "gone.json"]
    assert len(read(expected[-1])) == 1
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(LogError, match="is a folder without a log"):
        expand_folders([str(empty)])


def test_a_folder_in_a_folder_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = tmp_path / "deep" / "locked"
    locked.mkdir(parents=True)
    (tmp_path / "a.jsonl").write_text("{}")
    scan = os.scandir

    def scandir(path: Any) -> Any:
        if str(path) == str(locked):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(LogError, match=f"^{locked}: cannot be read: Permission denied"):
        expand_folders([str(tmp_path)])


def test_a_name_longer_than_any_file_is_one_error() -> None:
    with pytest.raises(LogError, match="cannot be read: File name too long"):
        expand_folders(["x" * 300])


def test_traces_come_from_standard_input_too(monkeypatch: pytest.MonkeyPatch) -> None:
    data = io.BytesIO(gzip.compress(json.dumps(MOONCAKE).encode()))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(data))
    assert len(read("-")) == 1


def test_a_trace_block_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="trace_block must be at least 1, got 0"):
        read_logs([], trace_block=0)
