"""Where a chat template comes from: a model by name or folder, or a file that holds one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radixcache.errors import ModelError

__all__ = ["ChatTemplate", "load_templates"]

_ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_CONFIG = "tokenizer_config.json"
_FILES = ("chat_template.jinja", "chat_template.json", _CONFIG)


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A chat template, and what its text is turned into token ids with.

    Attributes:
        name: of the model or the file; with the template's own name where there are several.
        text: the Jinja source.
        special_tokens: `bos_token` and the like, as the template is given them.
        encode: text to token ids; None where no tokenizer is known.
    """

    name: str
    text: str
    special_tokens: Mapping[str, str]
    encode: Callable[[str], list[int]] | None = None


def load_templates(name_or_file: str, notify: Callable[[str], None] = lambda _: None) -> list[ChatTemplate]:
    """The chat templates of a model, or in a file: .jinja, tokenizer_config.json, chat_template.json, GGUF.

    Special tokens of a file are looked for beside it, in tokenizer_config.json; the first and last of a text
    are otherwise taken to be `<s>` and `</s>`.

    Args:
        name_or_file: as for `load_tokenizer`, or a file.
        notify: called with one line of text before each step that takes long.

    Raises:
        ModelError: there is no such thing, or no chat template in it; names it and the reason.
    """
    path = Path(name_or_file).expanduser()
    if path.is_file():
        return _of_gguf(path) if path.suffix == ".gguf" else _of_file(path)
    if path.is_dir() and any((path / name).is_file() for name in _FILES):
        return _of_folder(path, name_or_file, notify)
    if path.suffix in (".jinja", ".j2", ".json", ".gguf"):
        raise ModelError(f"{name_or_file}: no such file")
    return _of_model(name_or_file, notify)


def _of_model(name: str, notify: Callable[[str], None]) -> list[ChatTemplate]:
    from radixcache.models.locate import locate
    from radixcache.models.tokenizing import load_tokenizer

    place = locate(name, notify)
    if isinstance(place, Path):
        return _of_folder(place, name, notify)
    tokenizer = load_tokenizer(name, notify=notify)
    special = {k: str(v) for k, v in tokenizer.special_tokens_map.items() if isinstance(v, str)}
    return _named(name, tokenizer.chat_template, special, _encoder(tokenizer))


def _of_folder(folder: Path, name: str, notify: Callable[[str], None]) -> list[ChatTemplate]:
    from radixcache.models.tokenizing import load_tokenizer

    for file in (folder / each for each in _FILES):
        if file.is_file() and (value := _read(file)):
            break
    else:
        raise ModelError(f"{name}: has no chat template")
    encode = None
    if (folder / "tokenizer.json").is_file() or (folder / "tokenizer.model").is_file():
        encode = _encoder(load_tokenizer(str(folder), notify=notify))
    return _named(name, value, _special_tokens(folder / _CONFIG), encode)


def _of_file(file: Path) -> list[ChatTemplate]:
    special = {"bos_token": "<s>", "eos_token": "</s>"} | _special_tokens(file.with_name(_CONFIG))
    return _named(str(file), _read(file), special, None)


def _of_gguf(file: Path) -> list[ChatTemplate]:
    from radixcache.models.gguf import read_gguf

    metadata, _ = read_gguf(file)
    prefix = "tokenizer.chat_template"
    found = {
        key.removeprefix(prefix).lstrip(".") or "default": value
        for key, value in metadata.items()
        if key == prefix or (key.startswith(f"{prefix}.") and isinstance(value, str))
    }
    tokens = metadata.get("tokenizer.ggml.tokens") or ()
    special = {}
    for role in ("bos", "eos", "unknown", "padding"):
        index = metadata.get(f"tokenizer.ggml.{role}_token_id")
        if isinstance(index, int) and index < len(tokens):
            special[{"unknown": "unk", "padding": "pad"}.get(role, role) + "_token"] = tokens[index]
    return _named(str(file), found, special, None)


def _named(
    name: str, value: Any, special: Mapping[str, str], encode: Callable[[str], list[int]] | None
) -> list[ChatTemplate]:
    """One template, or several by name, as transformers writes them."""
    if isinstance(value, list):
        value = {str(e.get("name")): e.get("template") for e in value if isinstance(e, dict)}
    texts = value if isinstance(value, dict) else {"": value}
    found = [
        ChatTemplate(f"{name} ({key})" if len(texts) > 1 else name, text, special, encode)
        for key, text in texts.items()
        if isinstance(text, str) and text.strip()
    ]
    if not found:
        raise ModelError(f"{name}: has no chat template")
    return found


def _read(file: Path) -> Any:
    """The template in a file, or None if it is JSON without one."""
    try:
        text = file.read_text(encoding="utf-8")
        if file.suffix != ".json":
            return text
        value = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelError(f"{file}: cannot be read: {reason}") from None
    return value.get("chat_template") if isinstance(value, dict) else None


def _special_tokens(config: Path) -> dict[str, str]:
    """The named special tokens, each written as a text or as an object with its content."""
    if not config.is_file():
        return {}
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{config}: cannot be read: {error}") from None
    found = {}
    for role in _ROLES:
        token = values.get(f"{role}_token") if isinstance(values, dict) else None
        content = token.get("content") if isinstance(token, dict) else token
        if isinstance(content, str):
            found[f"{role}_token"] = content
    return found


def _encoder(tokenizer: Any) -> Callable[[str], list[int]]:
    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False, verbose=False))

    return encode
