"""Where a model's files are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from radixcache.errors import ModelError
from radixcache.models.embedded import embedded_folder
from radixcache.models.loaded import EMBEDDED_MODEL


def locate(name: str, notify: Callable[[str], None]) -> Path | str:
    """A local folder to load from, or the hub's name for it; a GGUF file is converted on first use.

    Raises:
        ModelError: the folder holds no model, or there is no such file.
    """
    if name == EMBEDDED_MODEL:
        return embedded_folder(notify)
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"{name}: is a folder without config.json, so it holds no model")
        return path
    if path.is_file():
        from radixcache.models.gguf_folders import gguf_folder

        return gguf_folder(path, notify)
    if path.is_absolute() or name.startswith((".", "~")) or path.suffix == ".gguf":
        raise ModelError(f"{name}: no such file or folder")
    return name
