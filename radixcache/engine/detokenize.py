"""Token ids -> text, piece by piece: never half a character, never part of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

_CONTEXT = 5  # tokens of the prompt that may bear on how the first generated ones are spelt
_MOST_HELD = 16  # tokens after which undecodable bytes are taken for what they are
_REPLACEMENT = "\ufffd"


class TextStream:
    """The text of one continuation, as its tokens come.

    Attributes:
        stopped: a stop string has come; the text ends before it and nothing more is taken.
    """

    def __init__(self, tokenizer: Any, prompt: Sequence[int], *, stop: Sequence[str] = ()) -> None:
        """A stream that continues `prompt` (ids).

        Args:
            tokenizer: a transformers tokenizer.
            prompt: the ids before the first generated one; spaces between words can depend on them.
            stop: strings that end the text.
        """
        self.stopped = False
        self._ended = False
        self._decoder: _Decoder
        if _is_byte_level(tokenizer):
            self._decoder = _ByteDecoder(tokenizer)
        else:
            self._decoder = _WindowDecoder(tokenizer, prompt)
        self._matchers = [_StopMatcher(text) for text in stop]
        self._held = ""
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        """All text so far, with what `push` still withholds."""
        tail = "" if self._ended else self._held + self._decoder.rest()
        return "".join(self._pieces) + tail

    def push(self, token: int) -> str:
        """The text that is certain now that `token` has come; often empty, never part of a stop string."""
        if self._ended:
            return ""
        piece = self._decoder.push(token)
        if self._matchers:
            piece = self._before_stop(piece)
        if piece:
            self._pieces.append(piece)
        return piece

    def finish(self) -> str:
        """No more tokens: the text withheld until now. Bytes that are no character become U+FFFD."""
        if self._ended:
            return ""
        piece = self._held + self._decoder.rest()
        self._pieces.append(piece)
        self._ended = True
        return piece

    def _before_stop(self, piece: str) -> str:
        """`piece` with what was held before it, less what may yet become a stop string.

        Character by character, so that where the text ends does not depend on how it was cut into tokens.
        """
        waiting = self._held + piece
        new = len(self._held)
        for at, character in enumerate(piece, start=new + 1):
            ended = [matcher.length for matcher in self._matchers if matcher.step(character)]
            if ended:
                self.stopped = self._ended = True
                return waiting[: at - max(ended)]
        keep = max(matcher.matched for matcher in self._matchers)
        self._held = waiting[len(waiting) - keep :]
        return waiting[: len(waiting) - keep]


class _StopMatcher:
    """Finds a string in a stream (Knuth, Morris and Pratt 1977); knows how much of it may have begun.

    Attributes:
        length: characters of the string.
        matched: characters of it that the stream ends with.
    """

    def __init__(self, text: str) -> None:
        self.length = len(text)
        self.matched = 0
        self._text = text
        self._fallback = [0] * (len(text) + 1)
        for end in range(1, len(text)):
            self._fallback[end + 1] = self._after(self._fallback[end], text[end])

    def step(self, character: str) -> bool:
        """Takes one character; True if the string has just ended."""
        self.matched = self._after(self.matched, character)
        return self.matched == self.length

    def _after(self, matched: int, character: str) -> int:
        while matched and self._text[matched] != character:
            matched = self._fallback[matched]
        return matched + 1 if self._text[matched] == character else 0


class _Decoder(Protocol):
    def push(self, token: int) -> str:
        """Text that is complete with this token."""

    def rest(self) -> str:
        """Text of tokens that is not complete; changes nothing."""


class _ByteDecoder:
    """For byte-level vocabularies, where every token is a run of bytes, whatever stands beside it."""

    def __init__(self, tokenizer: Any) -> None:
        self._bytes = _byte_table(tokenizer)
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        return self._utf8.decode(self._bytes[token])

    def rest(self) -> str:
        return self._utf8.getstate()[0].decode("utf-8", "replace")


class _ByteTable(dict[int, bytes]):
    """Bytes of each token, filled as they are asked for. Special tokens have none."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder
        self._special = frozenset(token for token, content in added.items() if content.special)
        self._byte_of = _byte_of_letter()

    def __missing__(self, token: int) -> bytes:
        spelling: str | None = None
        if token not in self._special:
            spelling = self._tokenizer.convert_ids_to_tokens(token)
        found = self[token] = self._spelt(spelling or "")
        return found

    def _spelt(self, spelling: str) -> bytes:
        try:
            return bytes(self._byte_of[letter] for letter in spelling)
        except KeyError:  # an added token is spelt as it is
            return spelling.encode()


class _WindowDecoder:
    """For vocabularies where a token's text depends on its neighbours (SentencePiece drops a first space).

    Decodes the last tokens with and without the new ones and takes the difference. Windows move on whenever
    the text is complete, so the cost of a token does not grow with the length of the text.
    """

    def __init__(self, tokenizer: Any, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._window = list(prompt[-_CONTEXT:])
        self._known = len(self._window)  # tokens of the window whose text has been given out

    def push(self, token: int) -> str:
        self._window.append(token)
        rest = self.rest()
        if rest.endswith(_REPLACEMENT) and len(self._window) - self._known < _MOST_HELD:
            return ""
        if rest:
            del self._window[: self._known]
            self._known = len(self._window)
        return rest

    def rest(self) -> str:
        before = self._text(self._window[: self._known])
        return self._text(self._window)[len(before) :]

    def _text(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text


def _is_byte_level(tokenizer: Any) -> bool:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return type(getattr(backend, "decoder", None)).__name__ == "ByteLevel"


@lru_cache(maxsize=4)
def _byte_table(tokenizer: Any) -> _ByteTable:
    return _ByteTable(tokenizer)


@lru_cache(maxsize=1)
def _byte_of_letter() -> dict[str, int]:
    """GPT-2's spelling of bytes: printable Latin-1 as itself, the other bytes from U+0100 on, in order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}
