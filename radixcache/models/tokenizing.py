"""A name or path -> its tokenizer, without the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from radixcache.errors import ModelError
from radixcache.extras import missing_modules, require_extra
from radixcache.models.embedded import embedded_tokenizer_folder
from radixcache.models.gguf_folders import gguf_tokenizer_folder
from radixcache.models.loaded import EMBEDDED_MODEL
from radixcache.models.locate import locate
from radixcache.models.plain_tokenizer import PlainTokenizer
from radixcache.models.quiet import first_line, quiet_transformers
from radixcache.models.tokenizer_files import chat_templates


def load_tokenizer(name_or_path: str, *, notify: Callable[[str], None] = lambda _line: None) -> Any:
    """Loads a model's tokenizer, without torch and transformers where its files say all there is to it.

    Args:
        name_or_path: as for `load_model`; a folder need hold no more than the tokenizer, and of a model that
            is not converted yet the tokenizer alone is converted.
        notify: called with one line of text before each step that takes long.

    Raises:
        ModelError: the tokenizer cannot be found or loaded; names the model and the reason in one line.
        MissingExtraError: it takes transformers, which is not installed.
    """
    source = _find(name_or_path, notify)
    folder = source if isinstance(source, Path) else _from_hub(source)
    plain = None if folder is None else PlainTokenizer.open(folder)
    if plain is not None:
        return plain
    if isinstance(source, Path) and not any(source.glob("*token*")):
        raise ModelError(f"{name_or_path}: is a folder without a tokenizer")
    require_extra("engine", f"the tokenizer of {name_or_path}", modules=["transformers"])
    return _with_transformers(source, name_or_path)


def _find(name: str, notify: Callable[[str], None]) -> Path | str:
    """A local folder with the tokenizer, or the hub's name for it; ModelError as `locate`."""
    if name == EMBEDDED_MODEL:
        return embedded_tokenizer_folder(notify)
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    return gguf_tokenizer_folder(path, notify) if path.is_file() else locate(name, notify)


def _from_hub(name: str) -> Path | None:
    """A local folder with the tokenizer's files of a hub model; None if transformers must look for them.

    Raises:
        ModelError: they cannot be fetched, and transformers is not installed.
    """
    from huggingface_hub import snapshot_download

    from radixcache.models.hub import NO_ANSWER, hub_answers

    online = hub_answers()
    patterns = ["*token*", "*chat_template*"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, local_files_only=not online))
    except Exception as error:  # of the hub's client and whichever HTTP library it uses
        if "transformers" not in missing_modules("engine"):
            return None
        reason = first_line(error) if online else NO_ANSWER
        raise ModelError(f"tokenizer {name!r} cannot be loaded: {reason}") from error


def _with_transformers(source: Path | str, name: str) -> Any:
    from transformers import AutoTokenizer

    from radixcache.models.hub import hub_answers
    from radixcache.models.pretrained import from_pretrained, why_not_loaded

    online = not isinstance(source, Path) and hub_answers()
    try:
        with quiet_transformers():
            local = {} if online else {"local_files_only": True}
            tokenizer = from_pretrained(AutoTokenizer, source, **local)
    except Exception as error:
        reason = why_not_loaded(error, source, online=online)
        raise ModelError(f"tokenizer {name!r} cannot be loaded: {reason}") from error
    chat_templates(tokenizer.chat_template, name)
    return tokenizer
