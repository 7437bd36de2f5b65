"""What a folder's tokenizer_config.json and chat template say, checked before anybody relies on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from radixcache.errors import ModelError

__all__ = ["CONFIG_NAME", "TEMPLATE_NAME", "ChatTemplates", "chat_templates", "read_tokenizer_config"]

ChatTemplates = str | dict[str, str] | None
"""A chat template, several by name, or none."""

CONFIG_NAME = "tokenizer_config.json"
TEMPLATE_NAME = "chat_template.jinja"


def read_tokenizer_config(folder: Path) -> dict[str, Any] | None:
    """The object in a folder's tokenizer_config.json, or None if there is no such file.

    A `chat_template.jinja` beside it takes the place of the template in the file, as in transformers.

    Raises:
        ModelError: the file cannot be read, holds something else than an object, or its chat template is
            none; names the file.
    """
    file, separate = folder / CONFIG_NAME, folder / TEMPLATE_NAME
    if not file.is_file():
        return None
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        text = separate.read_text(encoding="utf-8") if separate.is_file() else None
    except RecursionError:
        raise ModelError(f"{file}: cannot be read: it is nested too deeply") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: its tokenizer cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise ModelError(f"{file}: must hold a JSON object, got {type(config).__name__}")
    if text is not None:
        config["chat_template"] = text
    chat_templates(config.get("chat_template"), str(file))
    return config


def chat_templates(value: object, where: str) -> ChatTemplates:
    """Chat templates in any form that transformers writes them in.

    Raises:
        ModelError: `value` is no template; names `where`.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
        named = [(entry.get("name"), entry.get("template")) for entry in value]
    else:
        named = list(value.items()) if isinstance(value, dict) else [(None, None)]
    if not all(isinstance(name, str) and isinstance(text, str) for name, text in named):
        raise ModelError(
            f"{where}: chat_template must be a text, or a list of objects with a name and a template"
        )
    return dict(named)
