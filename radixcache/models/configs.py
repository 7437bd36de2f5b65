"""A model's config.json, found by name or path and read as plain JSON: no torch, no transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radixcache.errors import ModelError
from radixcache.models.locate import locate

__all__ = ["ConfigFile", "read_config"]


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What a config.json says.

    Attributes:
        path: the file.
        fields: its content.
        weights_bytes: size of the safetensors files beside it, None if there are none.
    """

    path: Path
    fields: dict[str, Any]
    weights_bytes: int | None


def read_config(name_or_path: str, notify: Callable[[str], None] = lambda _line: None) -> ConfigFile:
    """Find and read the configuration of a model.

    Args:
        name_or_path: a config.json (any file that ends in .json), a model folder, a GGUF file (converted on
            first use), the embedded model's name, or a name on the Hugging Face hub, from which only the
            configuration is fetched.
        notify: called with one line of text before a step that takes long.

    Raises:
        ModelError: naming the model, if there is no such file or it holds no JSON object.
    """
    path = _locate(name_or_path, notify)
    try:
        fields = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: is no JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ModelError(f"{path}: holds no JSON object, so it is no model configuration")
    weights = sum(file.stat().st_size for file in path.parent.glob("*.safetensors"))
    return ConfigFile(path, fields, weights or None)


def _locate(name: str, notify: Callable[[str], None]) -> Path:
    path = Path(name).expanduser()
    if path.suffix == ".json":
        return path
    found = locate(name, notify)
    return found / "config.json" if isinstance(found, Path) else _from_hub(found)


def _from_hub(name: str) -> Path:
    from huggingface_hub import hf_hub_download

    from radixcache.models.hub import NO_ANSWER, hub_answers

    online = hub_answers()
    try:
        return Path(hf_hub_download(name, "config.json", local_files_only=not online))
    except Exception as error:  # of the hub's client and whichever HTTP library it uses
        reason = NO_ANSWER
        if online:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"model {name!r} has no config.json to be found: {reason}") from error
