"""A name or path -> its tokenizer, without the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from radixcache.errors import ModelError
from radixcache.models.locate import locate
from radixcache.models.plain_tokenizer import PlainTokenizer
from radixcache.models.tokenizer_files import chat_templates


def load_tokenizer(name_or_path: str, *, notify: Callable[[str], None] = lambda _line: None) -> Any:
    """Loads a model's tokenizer, without torch and transformers where its files say all there is to it.

    Args:
        name_or_path: as for `load_model`; a folder need hold no more than the tokenizer.
        notify: called with one line of text before each step that takes long.

    Raises:
        ModelError: the tokenizer cannot be found or loaded; names the model and the reason in one line.
    """
    folder = Path(name_or_path).expanduser()
    source = folder if folder.is_dir() else locate(name_or_path, notify)
    if isinstance(source, Path):
        plain = PlainTokenizer.open(source)
        if plain is not None:
            return plain
        if not any(source.glob("*token*")):
            raise ModelError(f"{name_or_path}: is a folder without a tokenizer")
    return _with_transformers(source, name_or_path)


def _with_transformers(source: Path | str, name: str) -> Any:
    from transformers import AutoTokenizer

    from radixcache.models.hub import hub_answers
    from radixcache.models.pretrained import from_pretrained, why_not_loaded
    from radixcache.models.quiet import quiet_transformers

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
