"""Folders of logs: which files in them are read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from radixcache.errors import LogError

__all__ = ["expand_folders"]

_KINDS = (".json", ".jsonl", ".ndjson")
_COMPRESSIONS = ("", ".gz", ".xz", ".zst")
_SUFFIXES = tuple(kind + compression for kind in _KINDS for compression in _COMPRESSIONS)


def expand_folders(paths: Iterable[str]) -> list[str]:
    """Put the logs in a folder, in order of name, in the place of the folder; other paths stay as they are.

    A log is a file that ends in .json, .jsonl or .ndjson, perhaps compressed. Folders within a folder are
    looked into, hidden files and folders are not.

    Raises:
        LogError: naming the folder, if it holds no log or cannot be read.
    """
    expanded: list[str] = []
    for path in paths:
        if path == "-" or not Path(path).is_dir():
            expanded.append(path)
            continue
        try:
            found = sorted(str(file) for file in Path(path).rglob("*") if _is_log(file, Path(path)))
        except OSError as error:
            raise LogError(f"{path}: cannot be read: {error.strerror}") from None
        if not found:
            raise LogError(f"{path}: is a folder without a log ({', '.join(_KINDS)}, perhaps compressed)")
        expanded += found
    return expanded


def _is_log(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not hidden and file.name.lower().endswith(_SUFFIXES) and file.is_file()
