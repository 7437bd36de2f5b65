"""The folders that GGUF files are converted to, once for each file as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import xxhash

from radixcache.extras import require_extra
from radixcache.models.byte_level import byte_level_parts
from radixcache.models.folders import build_once, models_home
from radixcache.models.gguf import read_gguf

__all__ = ["gguf_folder", "gguf_tokenizer_folder"]

_CONVERSION = 2  # raised when a conversion would write other files than before, or none


def gguf_folder(path: Path, notify: Callable[[str], None]) -> Path:
    """The folder that a GGUF file is converted to, on the first call for that file as it is now.

    Raises:
        ModelError: the file is not GGUF, or cannot be converted.
        MissingExtraError: the file is not converted yet, and the extra that converts it is not installed.
    """

    def build(folder: Path) -> None:
        require_extra("engine", f"converting {path.name}")
        from radixcache.models.convert import convert_gguf

        notify(f"converting {path.name}, once")
        convert_gguf(path.resolve(), folder)

    return build_once(_converted(path), build)


def gguf_tokenizer_folder(path: Path, notify: Callable[[str], None]) -> Path:
    """A folder with the tokenizer of a GGUF file: the converted model's if there is one.

    A byte-level tokenizer is taken out of the file without converting the model, other kinds are not.

    Raises:
        ModelError, MissingExtraError: as `gguf_folder`.
    """
    converted = _converted(path)
    if converted.is_dir():
        return converted
    tokenizer = converted.with_name(f"{converted.name}-tokenizer")
    if tokenizer.is_dir():
        return tokenizer
    metadata, _ = read_gguf(path)
    if metadata.get("tokenizer.ggml.model") != "gpt2":
        return gguf_folder(path, notify)
    return build_once(tokenizer, byte_level_parts(metadata, str(path)).save)


def _converted(path: Path) -> Path:
    path = path.resolve()
    stat = path.stat()
    identity = f"{_CONVERSION}\0{path}\0{stat.st_size}\0{stat.st_mtime_ns}"
    return models_home() / f"{path.stem}-{xxhash.xxh3_64_hexdigest(identity.encode())}"
