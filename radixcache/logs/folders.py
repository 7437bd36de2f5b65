"""Folders of logs: which files in them are read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from radixcache.errors import LogError

__all__ = ["expand_folders", "is_log_name"]

_KINDS = (".json", ".jsonl", ".ndjson")
_COMPRESSIONS = ("", ".gz", ".xz", ".zst")
_SUFFIXES = tuple(kind + compression for kind in _KINDS for compression in _COMPRESSIONS)


def expand_folders(paths: Iterable[str]) -> list[str]:
    """Put the logs in a folder, in order of name, in the place of the folder; other paths stay as they are.

    A log is a file that ends in .json, .jsonl or .ndjson, perhaps compressed. Folders within a folder are
    looked into, hidden files and folders are not.

    Raises:
        LogError: naming the folder, if it holds no log, or it or a folder in it cannot be read.
    """
    expanded: list[str] = []
    for path in paths:
        if path == "-" or not _is_folder(path):
            expanded.append(path)
            continue
        found = sorted(_logs_in(path))
        if not found:
            raise LogError(f"{path}: is a folder without a log ({', '.join(_KINDS)}, perhaps compressed)")
        expanded += found
    return expanded


def is_log_name(file: Path, folder: Path) -> bool:
    """Whether a file in a folder would be taken for one of its logs."""
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not hidden and file.name.lower().endswith(_SUFFIXES)


def _is_folder(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except OSError as error:
        raise LogError(f"{path}: cannot be read: {error.strerror or error}") from None


def _logs_in(path: str) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        raise LogError(f"{error.filename}: cannot be read: {error.strerror}")

    for place, folders, files in os.walk(path, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            file = Path(place, name)
            try:
                if is_log_name(file, Path(path)) and file.is_file():
                    yield str(file)
            except OSError as error:
                raise LogError(f"{file}: cannot be read: {error.strerror or error}") from None
