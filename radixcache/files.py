"""Output files that are whole or absent, standard output in their place, and temporary files."""

from __future__ import annotations

import gzip
import io
import os
import secrets
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from radixcache.errors import TemporaryFileError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["STDOUT", "ScratchFile", "check_writable", "writing", "writing_bytes"]

STDOUT = Path("-")
"""As an output: standard output."""

# Names below these are pipes, devices or open files: there is nothing to replace.
_OPEN_FILES = tuple(map(Path, ("/dev", "/proc")))


def check_writable(path: Path) -> None:
    """Refuse a path that could not be written, before hours of work end in that error.

    Raises:
        ValueError: naming the path and what is wrong with it.
    """
    if path == STDOUT:
        return
    try:
        if path.is_dir():
            raise ValueError(f"{path} is a folder; a file is needed")
        parent = path.resolve().parent
        if not parent.is_dir():
            raise ValueError(f"{path} cannot be written: {parent} is not a directory")
        if not os.access(path if path.exists() else parent, os.W_OK):
            raise ValueError(f"{path} cannot be written: permission denied")
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror or error}") from None


@contextmanager
def writing(path: Path) -> Iterator[IO[str]]:
    """Open for UTF-8 text, compressed if the name ends in .gz, .xz or .zst; else as `writing_bytes`."""
    with writing_bytes(path) as raw:
        text = io.TextIOWrapper(_compressed(raw, path), encoding="utf-8", newline="\n")
        try:
            yield text
        except BaseException:
            with suppress(OSError, ValueError):
                text.close()
            raise
        text.close()


@contextmanager
def writing_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open for bytes; the file takes its name only when the block ends without an exception.

    A file that is replaced keeps its mode and owner. Devices and pipes, which have no content to keep whole,
    are written directly, as is standard output for `STDOUT`.

    Raises:
        ValueError: naming the path, if the system refuses to write it.
        BrokenPipeError: the reader of standard output is gone.
    """
    name = "standard output" if path == STDOUT else str(path)
    try:
        if path == STDOUT:
            with _standard_output() as file:
                yield file
        elif _is_open_file(path):
            with path.open("wb") as file:
                yield file
        else:
            with _replacing(path.resolve()) as file:
                yield file
    except BrokenPipeError as error:
        if path == STDOUT:
            raise
        raise ValueError(f"{name} cannot be written: {error.strerror}") from None
    except OSError as error:
        raise ValueError(f"{name} cannot be written: {error.strerror or error}") from None


def _is_open_file(path: Path) -> bool:
    """Whether there is something other than a regular file, or a name for a file that is open already."""
    if any(path.is_relative_to(folder) for folder in _OPEN_FILES):
        return True
    return path.exists() and not path.is_file()


@contextmanager
def _replacing(target: Path) -> Iterator[IO[bytes]]:
    before = target.stat() if target.exists() else None
    working = target.with_name(f".radixcache-{secrets.token_hex(8)}.tmp")
    mode = 0o666 if before is None else 0o600
    try:
        with os.fdopen(os.open(working, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            yield file
        if before is not None:
            if hasattr(os, "chown"):
                with suppress(OSError):  # only root may give a file away
                    os.chown(working, before.st_uid, before.st_gid)
            working.chmod(stat.S_IMODE(before.st_mode))
        working.replace(target)
    finally:
        working.unlink(missing_ok=True)


@contextmanager
def _standard_output() -> Iterator[IO[bytes]]:
    sys.stdout.flush()
    stream = _Unclosed(sys.stdout.buffer)
    yield cast(IO[bytes], stream)
    stream.flush()


class _Unclosed(io.RawIOBase):
    """Another stream, which stays open when this one is closed."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        return self._stream.write(data)

    def flush(self) -> None:
        self._stream.flush()


def _compressed(raw: IO[bytes], path: Path) -> IO[bytes]:
    """What compresses into `raw` and leaves it open; `raw` itself for any other name."""
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return cast(IO[bytes], gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0))
    if suffix == ".xz":
        import lzma

        return lzma.LZMAFile(raw, "wb")
    if suffix == ".zst":
        import zstandard

        return cast(IO[bytes], zstandard.ZstdCompressor().stream_writer(raw, closefd=False))
    return raw


class ScratchFile:
    """A temporary file without a name, gone when it is closed.

    Raises:
        TemporaryFileError: in any call, naming the folder of temporary files, if the system refuses it.
    """

    def __init__(self) -> None:
        try:
            self._file = tempfile.TemporaryFile(prefix="radixcache-")  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise _refused(error) from None

    def write(self, data: ReadableBuffer) -> None:
        """Write at the current place."""
        try:
            self._file.write(data)
        except OSError as error:
            raise _refused(error) from None

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes from the current place."""
        try:
            return self._file.read(size)
        except OSError as error:
            raise _refused(error) from None

    def seek(self, place: int) -> None:
        """Go to a place, in bytes from the start."""
        try:
            self._file.seek(place)
        except OSError as error:  # what was written before is flushed
            raise _refused(error) from None

    def descriptor(self) -> int:
        """Its file descriptor, with everything written so far in the file."""
        try:
            self._file.flush()
        except OSError as error:
            raise _refused(error) from None
        return self._file.fileno()

    def close(self) -> None:
        """Drop the file; what could not be written any more is of no use either."""
        with suppress(OSError):
            self._file.close()


def _refused(error: OSError) -> TemporaryFileError:
    reason = error.strerror or str(error)
    if tempfile.tempdir is None:  # no folder for them was found
        return TemporaryFileError(f"no temporary file can be made: {reason}")
    return TemporaryFileError(
        f"temporary files cannot be kept in {tempfile.tempdir}: {reason} (TMPDIR names another folder)"
    )
