"""Opening a log as a stream of lines: plain, gzip, xz, zstandard, or standard input."""

from __future__ import annotations

import gzip
import io
import lzma
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import zstandard

from radixcache.errors import LogError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["MAX_LINE_BYTES", "LongLine", "open_log", "read_lines"]

MAX_LINE_BYTES = 64 * 2**20
"""A longer line is not held in memory but skipped as a bad one."""

_SUFFIXES = {".gz": "gzip", ".xz": "xz", ".zst": "zstandard"}
_MAGIC = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstandard"}
_JSON_STARTS = frozenset((b"", b"{", b"["))
_DAMAGE = (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, zstandard.ZstdError)


class LongLine(bytes):
    """Stands for a line of more than MAX_LINE_BYTES, whose text was dropped."""


def read_lines(source: str) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a log one at a time, numbered from 1, without line ends; blank ones are left out.

    `source` is a path, or `-` for standard input. Compression is known by the first bytes. Only one line is
    held in memory.

    Raises:
        LogError: naming the source, if it cannot be opened or its compressed data is damaged or cut short.
    """
    with open_log(source) as (stream, kind):
        number = 1
        try:
            while line := stream.readline(MAX_LINE_BYTES + 1):
                whole = len(line) <= MAX_LINE_BYTES or line.endswith(b"\n")
                if whole and line.isspace():
                    number += 1 + _skip_blank_lines(stream)
                    continue
                if whole:
                    yield number, line.rstrip(b"\r\n")
                else:
                    while line and not line.endswith(b"\n"):
                        line = stream.readline(MAX_LINE_BYTES)
                    yield number, LongLine()
                number += 1
        except _DAMAGE as error:
            raise LogError(f"{source}: damaged {kind} data: {error}") from None
        except OSError as error:
            raise LogError(f"{source}: cannot be read: {error.strerror or error}") from None


def _skip_blank_lines(stream: io.BufferedReader) -> int:
    """Pass over whole blank lines, many at a time: a small compressed file may hold millions of them."""
    count = 0
    while buffer := stream.peek(1):
        blank = buffer[: len(buffer) - len(buffer.lstrip())]
        whole = blank.rfind(b"\n") + 1
        stream.read(whole)
        count += blank.count(b"\n")
        if len(blank) < len(buffer) or not whole:
            break
    return count


@contextmanager
def open_log(source: str) -> Iterator[tuple[io.BufferedReader, str]]:
    """Open a log for reading, decompressed, with the name of its compression (`plain` for none).

    Raises:
        LogError: naming the source, if it cannot be opened.
    """
    if source == "-":
        if sys.stdin is None:
            raise LogError("-: cannot be read: standard input is closed")
        stdin = sys.stdin.buffer
        if not isinstance(stdin, io.BufferedReader):
            stdin = io.BufferedReader(cast(io.RawIOBase, stdin))
        with _decompressed(stdin, "") as opened:
            yield opened
        return
    try:
        file = Path(source).open("rb")  # noqa: SIM115 - closed by the `with` below
    except OSError as error:
        raise LogError(f"{source}: cannot be opened: {error.strerror}") from None
    with file, _decompressed(file, Path(source).suffix.lower()) as opened:
        yield opened


@contextmanager
def _decompressed(file: io.BufferedReader, suffix: str) -> Iterator[tuple[io.BufferedReader, str]]:
    kind = _kind(file, suffix)
    if kind == "gzip":
        with gzip.GzipFile(fileobj=file, mode="rb") as stream:
            yield cast(io.BufferedReader, stream), kind
    elif kind == "xz":
        with lzma.LZMAFile(file, "rb") as stream:
            yield cast(io.BufferedReader, stream), kind
    elif kind == "zstandard":
        yield io.BufferedReader(_ZstdStream(file)), kind
    else:
        yield file, "plain"


def _kind(file: io.BufferedReader, suffix: str) -> str:
    """How a file is compressed: by its first bytes, and by its name where those are not text either."""
    start = file.peek(6)
    for magic, kind in _MAGIC.items():
        if start.startswith(magic):
            return kind
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    return "" if not start or text in _JSON_STARTS else _SUFFIXES.get(suffix, "")


class _ZstdStream(io.RawIOBase):
    """Decompressed bytes of one or more zstandard frames.

    zstandard's own stream reader takes a file that ends inside a frame for one that ends; this one raises.
    """

    # A run-length block of 4 bytes may stand for 128 KiB, so the input is taken in small bites: what is
    # pending then never exceeds 32 MiB.
    _BITE = 1024

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._started = False
        self._pending = memoryview(b"")
        self._unused = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        while not self._pending:
            data = self._unused or self._file.read(self._BITE)
            self._unused = b""
            if not data:
                if self._started:
                    raise EOFError("the file ends inside a frame")
                return 0
            self._pending = memoryview(self._frame.decompress(data))
            self._started = True
            if self._frame.eof:
                self._unused = self._frame.unused_data
                self._frame = zstandard.ZstdDecompressor().decompressobj()
                self._started = False
        count = min(len(view), len(self._pending))
        view[:count] = self._pending[:count]
        self._pending = self._pending[count:]
        return count
