"""Special tokens written in what somebody says, kept from being taken for the template's own.

A chat template puts text and special tokens into one string, and the tokenizer cannot tell who wrote
`<|im_end|>`. So before the template sees a text, each special token in it is replaced by one character from a
private-use area. Of what the template returns, the stretch between two added tokens that has such a character
is encoded, with the token's text back in its place, by a tokenizer that knows no added tokens. A stretch
without one is encoded as ever, so that its ids are those of `apply_chat_template`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar

__all__ = ["PlainText"]

T = TypeVar("T")
_MARKS = 0xF0000  # the mark of the n-th added token is the n-th character from here on
_ESCAPE = "\U000ffffd"  # stands before a character of this area that somebody wrote
_PRIVATE = "[\U000f0000-\U000ffffd]"
_MOST_MARKS = 0xFFFD


class PlainText:
    """Masks special tokens in texts, and encodes masked texts.

    A mark depends on the tokenizer alone, so that masked texts may be kept and compared. Safe to use from
    several threads.

    Args:
        tokenizer: a transformers tokenizer, or an object with its `encode` and either `backend_tokenizer` or
            `added_tokens_decoder`.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        added = getattr(tokenizer, "added_tokens_decoder", None) or {}
        if backend is not None and hasattr(backend, "get_added_tokens_decoder"):
            added = backend.get_added_tokens_decoder()
        by_length = sorted(added.items(), key=lambda item: (-len(item[1].content), item[0]))
        known = [(number, token) for number, token in by_length if token.content][:_MOST_MARKS]
        self._tokens = {token.content: token for _, token in known}
        self._ids = {token.content: number for number, token in known}
        self._marks = {text: chr(_MARKS + place) for place, text in enumerate(self._tokens)}
        self._texts = {mark: text for text, mark in self._marks.items()}
        self._cuts = _any_of(
            text
            for text, token in self._tokens.items()
            if token.special or not (token.normalized or token.single_word)
        )
        self._masked: dict[str, re.Pattern[str]] = {}

    def mask(self, value: T, written: str = "") -> T:
        """A copy of a text, or of lists and dicts of texts, with its special tokens masked.

        Args:
            value: what somebody said.
            written: text that the template writes by itself: added tokens in it are masked even if they are
                not flagged as special.

        Raises:
            ValueError: a text holds half of a surrogate pair, which no tokenizer can encode.
        """
        pattern = self._masked.get(written)
        if pattern is None:
            chosen = (text for text, token in self._tokens.items() if token.special or text in written)
            pattern = self._masked[written] = re.compile("|".join([*map(re.escape, chosen), _PRIVATE]))
        return self._mask(value, pattern)

    def escape(self, text: str) -> str:
        """A text whose special tokens are special, as a masked text."""
        return text if text.isascii() else _PRIVATE_CHARACTER.sub(self._mark_private, text)

    def unmask(self, text: str) -> str:
        """A masked text as it was."""
        return _MARKED.sub(self._unmark, text) if not text.isascii() else text

    def masks(self, text: str) -> bool:
        """Whether special tokens are masked in a text."""
        return not text.isascii() and any(found[0] in self._texts for found in _MARKED.finditer(text))

    def encode(self, masked: str) -> list[int]:
        """Token ids of a masked text; special tokens in it are the template's.

        Raises:
            ValueError: a special token is masked that this tokenizer cannot encode as plain text.
        """
        ids: list[int] = []
        ordinary = ""
        for stretch in self._stretches(masked) if self.masks(masked) else [masked]:
            if self.masks(stretch):
                ids += self._encode_ordinary(ordinary)
                ids += self.encode_plain(stretch)
                ordinary = ""
            else:
                ordinary += stretch
        return ids + self._encode_ordinary(ordinary)

    def encode_plain(self, stretch: str) -> list[int]:
        """Token ids of a masked text between two added tokens, none of them added; errors as `encode`."""
        backend = _without_added_tokens(self._tokenizer)
        named = {self._texts[found[0]] for found in _MARKED.finditer(stretch) if found[0] in self._texts}
        special = {self._ids[text] for text in named}
        special.discard(getattr(self._tokenizer, "unk_token_id", None) or -1)
        # Where the vocabulary itself has the token's text, the text is cut after its first character.
        for cut in ("", "\ud800"):  # which is in no text
            parts = _MARKED.sub(lambda found, cut=cut: self._unmark(found, cut), stretch)  # type: ignore[misc]
            texts = parts.split(cut) if cut else [parts]
            ids = [i for text in texts if backend for i in backend.encode(text, add_special_tokens=False).ids]
            if ids and not special.intersection(ids):
                return ids
        names = ", ".join(map(repr, sorted(named)))
        raise ValueError(f"text must not contain {names}: this tokenizer cannot encode it as plain text")

    def _mask(self, value: T, pattern: re.Pattern[str]) -> T:
        if isinstance(value, str):
            if not value.isascii():
                _check_whole(value)
            return pattern.sub(self._mark, value)  # type: ignore[return-value]
        if isinstance(value, Mapping):
            return {  # type: ignore[return-value]
                self._mask(key, pattern): self._mask(item, pattern) for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._mask(item, pattern) for item in value]  # type: ignore[return-value]
        return value

    def _mark(self, found: re.Match[str]) -> str:
        return self._marks.get(found[0], _ESCAPE + found[0])

    def _mark_private(self, found: re.Match[str]) -> str:
        return f"{_ESCAPE}{found[0]}"

    def _unmark(self, found: re.Match[str], cut: str = "") -> str:
        token = self._texts.get(found[0])
        if token is None:  # an escaped character, or a mark that nobody made
            return str(found[0]).removeprefix(_ESCAPE) or _ESCAPE
        return f"{token[:1]}{cut}{token[1:]}"

    def _stretches(self, masked: str) -> list[str]:
        """The added tokens, with the blanks that they take in, and what is between them."""
        parts: list[str] = []
        end = 0
        for found in self._cuts.finditer(masked) if self._cuts else ():
            token = self._tokens[found[0]]
            before = masked[end : found.start()]
            kept = before.rstrip() if token.lstrip else before
            after = found.end()
            while token.rstrip and after < len(masked) and masked[after].isspace():
                after += 1
            parts += [kept, masked[end + len(kept) : after]]
            end = after
        return [*parts, masked[end:]]

    def _encode_ordinary(self, text: str) -> list[int]:
        if not text:
            return []
        # Not verbose: transformers would warn of long prompts.
        return list(self._tokenizer.encode(self.unmask(text), add_special_tokens=False, verbose=False))


_PRIVATE_CHARACTER = re.compile(_PRIVATE)
_MARKED = re.compile(f"{_ESCAPE}[\\s\\S]|{_PRIVATE}")


def _any_of(texts: Any) -> re.Pattern[str] | None:
    names = "|".join(map(re.escape, texts))
    return re.compile(names) if names else None


def _check_whole(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"cannot be encoded: character {error.start} is the lone surrogate {text[error.start]!r}"
        ) from None


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
