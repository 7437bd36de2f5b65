"""Images, audio and files in a conversation: a mark in its text, which is encoded as a run of tokens.

What the ids are does not matter, only that the same content gives the same ones and that no text does: they
are 2^30 and more, beyond every vocabulary.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping
from typing import Any

import xxhash

__all__ = ["MARK", "is_media", "media_mark", "media_run", "split_media", "without_marks"]

_OPEN, _CLOSE = "\U0010fff0", "\U0010fff1"
MARK = re.compile(f"{_OPEN}([a-z]+):([0-9a-f]+):([0-9]+){_CLOSE}")
_SPLIT = re.compile(f"({_OPEN}[a-z]+:[0-9a-f]+:[0-9]+{_CLOSE})")
_FIRST_ID = 1 << 30


def is_media(part: Any) -> bool:
    """Whether a part of a message's content is not text: `{"type": "media", "media", "digest", "tokens"}`."""
    return isinstance(part, Mapping) and part.get("type") == "media" and isinstance(part.get("digest"), str)


def media_mark(part: Mapping[str, Any]) -> str:
    """What stands for a part in the text of its message."""
    return f"{_OPEN}{part['media']}:{part['digest']}:{part['tokens']}{_CLOSE}"


def without_marks(text: str) -> str:
    """A text that somebody wrote, so that nothing in it is taken for a mark."""
    return text.replace(_OPEN, "\ufffd") if _OPEN in text else text


def split_media(text: str) -> list[str]:
    """A text cut at its marks, which are every second piece."""
    return _SPLIT.split(text) if _OPEN in text else [text]


def media_run(mark: str) -> array[int]:
    """The token ids, int32, that a mark stands for."""
    found = MARK.fullmatch(mark)
    assert found is not None
    digest = found[2].encode()
    return array(
        "i",
        (_FIRST_ID | xxhash.xxh3_64_intdigest(digest, seed=at) % _FIRST_ID for at in range(int(found[3]))),
    )
