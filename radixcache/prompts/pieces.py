"""Prompts tokenised piece by piece: what many requests share is tokenised once.

A tokenizer cuts a text at its special tokens before it does anything else, and one of the byte-level kind
(GPT-2's pattern) also between a single line break and what follows it. Between such cuts nothing depends on
what stands beyond, so ids of pieces put together are the ids of the whole. Tokenizers of which that is not
known tokenise every prompt whole.
"""

from __future__ import annotations

import json
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

from radixcache.logs.record import LogRequest
from radixcache.prompts.encode import EncodeError, PromptEncoder, Rendered
from radixcache.tokens import TOKEN_BYTES

__all__ = ["PieceEncoder"]

_CACHE_CHARACTERS = 1 << 25
_INSIDE_CHARACTERS = 100  # an entry of `_inside` weighs as much
_LINE = re.compile(r"(?<=\S\n)(?=\S)")
_CUTTING = frozenset({"Digits", "Split", "Punctuation", "Sequence", "ByteLevel"})
_PROBE = "a"


class PieceEncoder:
    """Does what `PromptEncoder` does, with the same ids, and says what a request's text is.

    Args:
        tokenizer: the tokenizer; one without a fast backend is used as it is.
        model_name: named in errors.
    """

    def __init__(self, tokenizer: Any, model_name: str) -> None:
        self._plain = PromptEncoder(tokenizer, model_name)
        self.backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        self._known: dict[str, bytes] = {}
        self._inside: dict[tuple[str, int], int] = {}  # a piece and a character of it -> tokens from there on
        self._characters = 0
        self._special: re.Pattern[str] | None = None
        self._by_line = False
        self._frame: tuple[bytes, bytes] | None = None
        if self.backend is not None:
            self._special, self._by_line = _cuts(self.backend)
            self._frame = _frame(self.backend)

    def encode(self, request: LogRequest) -> array[int]:
        """Token ids of a prompt; errors as `PromptEncoder.encode`."""
        if request.prompt_token_ids is not None or self._special is None:
            return self._plain.encode(request)
        if request.messages is not None:
            text = self._plain.render(request.messages, request.tools).text
            ids = self._joined(self._pieces(text))
        elif self._frame is None or self._special.match(request.prompt or ""):  # it may have its first token
            return self._plain.encode(request)
        else:
            ids = self._joined(self._pieces(request.prompt or ""), self._frame)
        if not ids:
            raise EncodeError("the prompt has no tokens")
        return ids

    def encode_text(self, text: str, places: Sequence[int]) -> tuple[array[int], array[int]]:
        """Token ids of a conversation that is rendered already, and how many tokens end at some places.

        Args:
            text: special tokens as text.
            places: characters, ascending.

        Returns:
            The ids that `encode` gives, and for each place how many of them lie wholly before it; no such
            counts without a fast backend.

        Raises:
            EncodeError: no token comes out.
        """
        if self._special is not None:
            pieces = self._pieces(text)
            ids, counts = self._joined(pieces), self._counts(pieces, places)
        else:
            ids, stops = self._plain.encode_answer(text), self._stops(text)
            known = len(stops) == len(ids)
            counts = array("i", (bisect_right(stops, place) for place in places if known))
        if not ids:
            raise EncodeError("the prompt has no tokens")
        return ids, counts

    def encode_answer(self, text: str) -> array[int]:
        """Token ids of an answer as it follows a prompt."""
        if self._special is None:
            return self._plain.encode_answer(text)
        return self._joined(self._pieces(text))

    def render(self, request: LogRequest) -> Rendered:
        """The text of a prompt that is no token ids, as it is tokenised."""
        if request.messages is not None:
            return self._plain.render(request.messages, request.tools)
        return Rendered(request.prompt or "", [])

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Where each token of a text begins and ends in it, in characters; empty without a fast backend."""
        if self.backend is None:
            return []
        return list(self.backend.encode(text, add_special_tokens=False).offsets)

    def decode(self, packed: bytes) -> str:
        """The text of packed token ids, special tokens included; empty without a fast backend."""
        if self.backend is None:
            return ""
        ids = memoryview(packed).cast("i").tolist()
        return str(self.backend.decode(ids, skip_special_tokens=False))

    def _joined(self, pieces: list[str], frame: tuple[bytes, bytes] = (b"", b"")) -> array[int]:
        known = self._known
        ids = array("i")
        ids.frombytes(b"".join([frame[0], *[known[piece] for piece in pieces], frame[1]]))
        return ids

    def _pieces(self, text: str) -> list[str]:
        """The text in pieces, all of which are known until the next text comes."""
        assert self._special is not None
        if self._characters > _CACHE_CHARACTERS:
            self._known.clear()
            self._inside.clear()
            self._characters = 0
        pieces: list[str] = []
        for segment in self._special.split(text):
            if segment in self._known or not self._by_line:
                pieces.append(segment)
            else:
                pieces += _LINE.split(segment)
        known = self._known
        fresh = [piece for piece in dict.fromkeys(pieces) if piece not in known]
        if fresh:
            self._learn(fresh)
        return pieces

    def _counts(self, pieces: list[str], places: Sequence[int]) -> array[int]:
        """Tokens that lie wholly before some characters of a text."""
        known = self._known
        stops = list(accumulate(map(len, pieces)))
        tokens = list(accumulate(len(known[piece]) // TOKEN_BYTES for piece in pieces))
        found = array("i")
        for place in places:
            at = bisect_left(stops, place)
            back = stops[at] - place
            found.append(tokens[at] - (self._behind(pieces[at], len(pieces[at]) - back) if back else 0))
        return found

    def _behind(self, piece: str, place: int) -> int:
        """Tokens of a piece that do not lie wholly before a character of it."""
        count = self._inside.get((piece, place))
        if count is None:
            stops = self._stops(piece)
            count = self._inside[piece, place] = len(stops) - bisect_right(stops, place)
            self._characters += _INSIDE_CHARACTERS
        return count

    def _stops(self, text: str) -> list[int]:
        """Where the tokens of a text end in it, in characters."""
        return list(accumulate((stop for _, stop in self.offsets(text)), max))

    def _learn(self, pieces: Iterable[str]) -> None:
        texts = list(pieces)
        for text, found in zip(
            texts, self.backend.encode_batch_fast(texts, add_special_tokens=False), strict=True
        ):
            self._known[text] = array("i", found.ids).tobytes()
            self._characters += len(text) + TOKEN_BYTES * len(found.ids)


def _cuts(backend: Any) -> tuple[re.Pattern[str] | None, bool]:
    """A pattern of the special tokens to cut at, if cutting there is safe, and whether lines may be cut."""
    added = list(backend.get_added_tokens_decoder().values())
    if not added or any(token.lstrip or token.rstrip or token.single_word for token in added):
        return None, False
    if backend.normalizer is not None or backend.pre_tokenizer is None:
        return None, False
    steps = _steps(json.loads(backend.pre_tokenizer.__getstate__()))
    byte_level = [step for step in steps if step["type"] == "ByteLevel"]
    if any(step["type"] not in _CUTTING for step in steps) or not byte_level:
        return None, False
    if any(step.get("add_prefix_space") for step in byte_level):
        return None, False
    texts = sorted((token.content for token in added), key=len, reverse=True)
    pattern = re.compile("(" + "|".join(map(re.escape, texts)) + ")")
    by_line = all(step["type"] in ("ByteLevel", "Digits") for step in steps)
    return pattern, by_line and all(step.get("use_regex", True) for step in byte_level)


def _steps(state: dict[str, Any]) -> list[dict[str, Any]]:
    return (
        [step for part in state["pretokenizers"] for step in _steps(part)]
        if "pretokenizers" in state
        else [state]
    )


def _frame(backend: Any) -> tuple[bytes, bytes] | None:
    """Ids that the tokenizer puts before and after a text by itself, or None if that is unclear."""
    bare = backend.encode(_PROBE, add_special_tokens=False).ids
    full = backend.encode(_PROBE, add_special_tokens=True).ids
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return array("i", full[:start]).tobytes(), array("i", full[start + len(bare) :]).tobytes()
    return None
