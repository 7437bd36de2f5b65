"""Plain and compressed files and standard input, read as streams."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import random
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from radixcache.errors import LogError
from radixcache.logs import BadLine, LineRules, read_logs
from radixcache.logs.rules import MAX_TEXT_BYTES

LINES = b"".join(b'{"prompt": "number %d"}\n' % i for i in range(5000))


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstd}


def prompts(path: Path | str) -> list[str | None]:
    return [request.prompt for request in read_logs([str(path)], strict=True)]


EXPECTED = [f"number {i}" for i in range(5000)]


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_compressed_by_suffix(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"log.jsonl{suffix}"
    path.write_bytes(COMPRESSIONS[suffix](LINES))
    assert prompts(path) == EXPECTED


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_compressed_without_a_suffix_is_known_by_its_first_bytes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(COMPRESSIONS[suffix](LINES))
    assert prompts(path) == EXPECTED


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_several_compressed_parts_are_one_log(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"log{suffix}"
    path.write_bytes(COMPRESSIONS[suffix](LINES[:20_011]) + COMPRESSIONS[suffix](LINES[20_011:]))
    assert prompts(path) == EXPECTED


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_cut_short_is_an_error_that_names_the_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"log{suffix}"
    whole = COMPRESSIONS[suffix](LINES)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LogError, match=r"damaged (gzip|xz|zstandard) data") as error:
        prompts(path)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_flipped_bytes_are_an_error_that_names_the_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"log{suffix}"
    data = bytearray(COMPRESSIONS[suffix](LINES))
    data[len(data) // 2 : len(data) // 2 + 40] = b"\x55" * 40
    path.write_bytes(data)
    with pytest.raises(LogError):
        list(read_logs([str(path)]))


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_a_plain_file_is_read_whatever_its_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"log{suffix}"
    for start in (b"", b"\n\n", b"\xef\xbb\xbf"):
        path.write_bytes(start + LINES)
        assert prompts(path) == EXPECTED


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_a_compressed_name_with_neither_is_an_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"log{suffix}"
    path.write_bytes(b"\x00\x01" + LINES)
    with pytest.raises(LogError, match="damaged"):
        prompts(path)


@pytest.mark.parametrize("compress", [gzip.compress, zstd])
def test_millions_of_blank_lines_are_passed_over_and_counted(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "log.jsonl"
    count = 20_000_000
    path.write_bytes(compress(b"\n" * count + b' \r\n\t\n{"prompt": "x"}\n\n\n{"prompt": "y"}\n   '))
    started = time.process_time()
    assert [(r.line, r.prompt) for r in read_logs([str(path)], strict=True)] == [
        (count + 3, "x"),
        (count + 6, "y"),
    ]
    assert time.process_time() - started < 2.0  # line by line it takes several times as long


def test_a_closed_standard_input_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(LogError, match="-: cannot be read: standard input is closed"):
        list(read_logs(["-"]))


def test_a_log_without_a_request_names_itself_and_what_is_known(tmp_path: Path) -> None:
    empty, other = tmp_path / "empty.jsonl", tmp_path / "other.jsonl"
    empty.write_text("\n\n")
    other.write_text('{"text": "x"}\n' * 3)
    with pytest.raises(LogError, match=r"empty\.jsonl: no request was found, every line is blank"):
        list(read_logs([str(empty)], must_find=True))
    with pytest.raises(LogError, match=r"other\.jsonl: no request was found in 3 lines; .*hash_ids"):
        list(read_logs([str(empty), str(other)], must_find=True))


def test_long_lines_of_text_are_refused_unless_allowed(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    text = json.dumps({"prompt": "a" * (MAX_TEXT_BYTES + 1)})
    ids = json.dumps({"prompt_token_ids": [100_000] * (MAX_TEXT_BYTES // 7)})
    path.write_text(f'{text}\n{ids}\n{{"prompt": "b"}}\n')
    bad: list[BadLine] = []
    assert [r.line for r in read_logs([str(path)])] == [1, 2, 3]
    rules = LineRules(max_text_bytes=MAX_TEXT_BYTES)
    assert [r.line for r in read_logs([str(path)], on_bad_line=bad.append, rules=rules)] == [2, 3]
    assert "of text are tokenized at once, unless --max-line allows more" in str(bad[0])
    allowed = LineRules(max_bytes=2 * MAX_TEXT_BYTES)
    assert [r.line for r in read_logs([str(path)], rules=allowed)] == [1, 2, 3]
    bad.clear()
    assert [
        r.line for r in read_logs([str(path)], on_bad_line=bad.append, rules=LineRules(max_bytes=9))
    ] == []
    assert [str(line).endswith("at most 9 are read (--max-line)") for line in bad] == [True] * 3


def test_session_and_time_may_have_other_names(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(
        '{"prompt": "x", "meta": {"chat": 7, "at": "2026-11-28T00:00:00Z"}, "session_id": "other"}'
    )
    (request,) = read_logs([str(path)], rules=LineRules(session_field="meta.chat", time_field="meta.at"))
    assert (request.session, request.timestamp) == ("7", 1_795_824_000.0)
    with pytest.raises(ValueError, match=r"time_field must be a field name or a dotted path, got 'a\.\.b'"):
        LineRules(time_field="a..b")


def test_missing_file() -> None:
    with pytest.raises(LogError, match=r"nowhere\.jsonl: cannot be opened: No such file or directory"):
        prompts("nowhere.jsonl")


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="cannot be opened: Is a directory"):
        prompts(tmp_path)


@pytest.mark.parametrize("compress", [bytes, *COMPRESSIONS.values()])
def test_standard_input(monkeypatch: pytest.MonkeyPatch, compress: Callable[[bytes], bytes]) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(compress(LINES))))
    requests = list(read_logs(["-"], strict=True))
    assert [request.prompt for request in requests] == EXPECTED
    assert {request.source for request in requests} == {"-"}


def test_empty_files_hold_no_requests(tmp_path: Path) -> None:
    for name, data in [("a.jsonl", b""), ("b.jsonl.gz", gzip.compress(b"")), ("c.jsonl.zst", zstd(b""))]:
        (tmp_path / name).write_bytes(data)
        assert prompts(tmp_path / name) == []


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_log_is_never_held_as_a_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"log.jsonl{suffix}"
    rng = random.Random(1)
    data = b"".join(b'{"prompt": "%s"}\n' % rng.randbytes(5000).hex().encode() for _ in range(600))
    path.write_bytes(COMPRESSIONS.get(suffix, bytes)(data))
    tracemalloc.start()  # counts what Python allocates from here on
    count = sum(1 for _ in read_logs([str(path)], strict=True))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 600
    assert peak < len(data) / 10


def test_a_file_that_shrinks_ten_thousandfold_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log.zst"
    path.write_bytes(zstd(b'{"prompt": "%s"}\n' % (b"z" * 30_000_000)))
    (request,) = read_logs([str(path)], strict=True)
    assert request.prompt == "z" * 30_000_000


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"prompt": "a"}\nnot json\n')
    requests = read_logs([str(path), "nowhere.jsonl"], strict=True)
    assert next(requests).prompt == "a"
    with pytest.raises(LogError, match="line 2"):
        next(requests)
