"""Special tokens written in what somebody says, kept from being taken for the template's own.

A chat template puts text and special tokens into one string, and the tokenizer cannot tell who wrote
`<|im_end|>`. So before the template sees a text, each special token in it is replaced by a character that
nobody uses; of what the template returns, the stretch between two real special tokens that has such a
character is encoded, with the token's text back in its place, by a tokenizer that knows no special tokens.
Whatever has none is encoded as ever, so that its ids are those of `apply_chat_template`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar

__all__ = ["PlainText"]

T = TypeVar("T")
_MARKS = 0xF0000  # where characters for private use begin that nobody uses; who does gets them masked, too
_PRIVATE = "[\U000f0000-\U000ffffd]"


class PlainText:
    """What the texts of one conversation have in them of special tokens.

    Args:
        tokenizer: a transformers tokenizer.
        written: text that the template writes by itself: of the tokenizer's added tokens those in it are
            kept from texts even if they are not flagged as special.
    """

    def __init__(self, tokenizer: Any, written: str = "") -> None:
        self._tokenizer = tokenizer
        added = getattr(tokenizer, "added_tokens_decoder", {}).values()
        tokens = [token for token in added if token.content and (token.special or token.content in written)]
        tokens.sort(key=lambda token: len(token.content), reverse=True)
        self._tokens = {token.content: token for token in tokens}
        names = "|".join(map(re.escape, self._tokens))
        self._pattern = re.compile(names) if tokens else None
        self._masked = re.compile(f"{names}|{_PRIVATE}")
        self._marks: dict[str, str] = {}  # of each special token that was found
        self._texts: dict[str, str] = {}  # and the way back

    def mask(self, value: T) -> T:
        """A copy of a text, or of lists and dicts of texts, with its special tokens masked."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self._masked.sub(lambda found: self._mark(found[0]), value)  # type: ignore[return-value]
        if isinstance(value, Mapping):
            return {self.mask(key): self.mask(item) for key, item in value.items()}  # type: ignore[return-value]
        if isinstance(value, list | tuple):
            return [self.mask(item) for item in value]  # type: ignore[return-value]
        return value

    def encode(self, rendered: str) -> list[int]:
        """Token ids of what a template made of masked texts; special tokens in it are the template's.

        Raises:
            ValueError: a text has a special token that this tokenizer cannot encode as plain text.
        """
        named = {mark for mark, text in self._texts.items() if text in self._tokens}
        ids: list[int] = []
        ordinary = ""
        for stretch in self._stretches(rendered) if named else [rendered]:
            if named.intersection(stretch):
                ids += self._encode_ordinary(ordinary)
                ids += self._encode_plain(stretch)
                ordinary = ""
            else:
                ordinary += stretch
        return ids + self._encode_ordinary(ordinary)

    def _mark(self, token: str) -> str:
        if token not in self._marks:
            self._marks[token] = chr(_MARKS + len(self._marks))
            self._texts[self._marks[token]] = token
        return self._marks[token]

    def _stretches(self, rendered: str) -> list[str]:
        """The special tokens, with the blanks that they take in, and what is between them."""
        assert self._pattern is not None
        parts: list[str] = []
        end = 0
        for found in self._pattern.finditer(rendered):
            token = self._tokens[found[0]]
            before = rendered[end : found.start()]
            kept = before.rstrip() if token.lstrip else before
            after = found.end()
            while token.rstrip and after < len(rendered) and rendered[after].isspace():
                after += 1
            parts += [kept, rendered[end + len(kept) : after]]
            end = after
        return [*parts, rendered[end:]]

    def _encode_ordinary(self, text: str) -> list[int]:
        if not text:
            return []
        for mark, original in self._texts.items():
            text = text.replace(mark, original)
        return list(self._tokenizer.encode(text, add_special_tokens=False, verbose=False))

    def _encode_plain(self, stretch: str) -> list[int]:
        backend = _without_added_tokens(self._tokenizer)
        named = self._tokens.keys() & self._marks.keys()
        special = {self._tokenizer.convert_tokens_to_ids(token) for token in named}
        special.discard(getattr(self._tokenizer, "unk_token_id", None))
        # Where the vocabulary itself has the token's text, the text is cut after its first character.
        for cut in ("", "\ud800"):  # which is in no text
            text = stretch
            for mark, token in self._texts.items():
                text = text.replace(mark, token[:1] + cut + token[1:])
            parts = text.split(cut) if cut else [text]
            ids = [i for part in parts if backend for i in backend.encode(part, add_special_tokens=False).ids]
            if ids and not special.intersection(ids):
                return ids
        names = ", ".join(map(repr, self._marks))
        raise ValueError(f"text must not contain {names}: this tokenizer cannot encode it as plain text")


@lru_cache(maxsize=4)
def _without_added_tokens(tokenizer: Any) -> Any:
    """A copy of a fast tokenizer's backend that takes every text for text; None for a slow tokenizer."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    from tokenizers import Tokenizer

    state = json.loads(backend.to_str())
    state["added_tokens"] = []
    return Tokenizer.from_str(json.dumps(state))
