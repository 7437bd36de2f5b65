"""Output files that are whole or not there at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

__all__ = ["check_writable", "writing"]


def check_writable(path: Path) -> None:
    """Refuse a path that could not be written, before hours of work end in that error.

    Raises:
        ValueError: naming the path and what is wrong with it.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; a file is needed")
    parent = path.resolve().parent
    if not parent.is_dir():
        raise ValueError(f"{path} cannot be written: {parent} is no folder")
    if not os.access(path if path.exists() else parent, os.W_OK):
        raise ValueError(f"{path} cannot be written: permission denied")


@contextmanager
def writing(path: Path) -> Iterator[IO[str]]:
    """Open for UTF-8 text; the file takes its name only when the block ends without an exception.

    Devices and pipes, which have no content to keep whole, are written straight.

    Raises:
        ValueError: naming the path, if the system refuses to write it.
    """
    target = path.resolve()
    direct = target.exists() and not target.is_file()
    working = target if direct else target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with working.open("w", encoding="utf-8", newline="\n") as file:
            yield file
        if not direct:
            working.replace(target)
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        if not direct:
            working.unlink(missing_ok=True)
