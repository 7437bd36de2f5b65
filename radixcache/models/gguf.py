"""GGUF files without torch: their metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from radixcache.errors import ModelError
from radixcache.models.quiet import first_line

__all__ = ["MAGIC", "read_gguf"]

MAGIC = b"GGUF"


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
