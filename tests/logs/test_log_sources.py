"""Plain and compressed files and standard input, read as streams."""

from __future__ import annotations

import gzip
import io
import lzma
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from radixcache.errors import LogError
from radixcache.logs import read_logs

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
def test_suffix_that_lies_is_an_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"log{suffix}"
    path.write_bytes(LINES)
    with pytest.raises(LogError, match="damaged"):
        prompts(path)


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
