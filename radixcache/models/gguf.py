"""GGUF files without torch: their metadata, and the folder that one is converted to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import xxhash

from radixcache.errors import ModelError
from radixcache.extras import require_extra
from radixcache.models.byte_level import byte_level_parts
from radixcache.models.folders import build_once, models_home
from radixcache.models.quiet import first_line

__all__ = ["MAGIC", "gguf_folder", "gguf_tokenizer_folder", "read_gguf"]

MAGIC = b"GGUF"

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


def read_gguf(path: Path) -> tuple[dict[str, Any], int]:
    """The key-values of a GGUF file (arrays become lists, strings str) and its number of parameters.

    Raises:
        ModelError: the file cannot be read as GGUF.
    """
    from gguf import GGUFReader

    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ModelError(f"{path}: is not a GGUF file (it does not begin with {MAGIC.decode()})")
    try:
        reader = GGUFReader(path)
        metadata = {key: field.contents() for key, field in reader.fields.items()}
        return metadata, sum(int(tensor.n_elements) for tensor in reader.tensors)
    except Exception as error:  # whatever a truncated file does to the reader
        raise ModelError(f"{path}: cannot be read as GGUF: {first_line(error)}") from error
