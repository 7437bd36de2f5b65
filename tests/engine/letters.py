"""A tokenizer for tests of text: every token is one letter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from radixcache.models import LoadedModel
from tests import tiny_models

FIRST = 0x4E00


class Letters:
    """Token n is the n-th letter from U+4E00 on."""

    chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"

    def decode(self, ids: list[int], **options: Any) -> str:
        return "".join(chr(FIRST + token) for token in ids)

    def encode(self, text: str, **options: Any) -> list[int]:
        return [ord(letter) - FIRST for letter in text]


def lettered(tokenizer: Any = None) -> LoadedModel:
    """A tiny model that has text."""
    return replace(tiny_models.tiny("llama"), tokenizer=tokenizer or Letters())
