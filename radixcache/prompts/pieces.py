"""Texts tokenised piece by piece: what many texts share is tokenised once.

A tokenizer cuts a text at its special tokens before it does anything else, and one of the byte-level kind
(GPT-2's pattern) also between a single line break and what follows it. Between such cuts nothing depends on
what is beyond, so ids of pieces put together are the ids of the whole. Tokenizers of which that is not known
tokenise every text whole.
"""

from __future__ import annotations

import json
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

from radixcache.prompts.media import media_run, split_media
from radixcache.prompts.plain import PlainText
from radixcache.tokens import TOKEN_BYTES

__all__ = ["PieceEncoder"]

_CACHE_CHARACTERS = 1 << 25
_INSIDE_CHARACTERS = 100  # an entry of `_inside` weighs as much
_LINE = re.compile(r"(?<=\S\n)(?=\S)")
_CUTTING = frozenset({"Digits", "Split", "Punctuation", "Sequence", "ByteLevel"})
_PROBE = "a"


class PieceEncoder:
    """Encodes masked texts (see `PlainText`) with the ids that `plain.encode` gives.

    Args:
        tokenizer: a transformers tokenizer; one without a fast backend encodes every text whole.
        plain: of the same tokenizer.
    """

    def __init__(self, tokenizer: Any, plain: PlainText) -> None:
        self._plain = plain
        self._backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        self._known: dict[str, bytes] = {}
        self._inside: dict[tuple[str, int], int] = {}  # a piece and a character of it -> tokens from there on
        self._characters = 0
        self._special: re.Pattern[str] | None = None
        self._by_line = False
        self._frame: tuple[bytes, bytes] | None = None
        if self._backend is not None:
            self._special, self._by_line = _cuts(self._backend)
            self._frame = _frame(self._backend)

    def encode(self, masked: str) -> array[int]:
        """Token ids of a masked text; ValueError as `PlainText.encode`."""
        if self._special is not None:
            return self._joined(self._pieces(masked))
        ids = array("i")
        for place, part in enumerate(split_media(masked)):
            ids.extend(media_run(part) if place % 2 else self._plain.encode(part))
        return ids

    def encode_framed(self, text: str) -> array[int] | None:
        """Token ids of a text prompt, with the tokens that the tokenizer adds around it.

        None where pieces cannot tell: the text is then encoded whole. Special tokens in it are such.
        """
        if self._special is None or self._frame is None or self._special.match(text):
            return None  # a text that begins with a special token may have its first token already
        return self._joined(self._pieces(text, marked=False), self._frame)

    def encode_to(self, masked: str, places: Sequence[int]) -> tuple[array[int], array[int]]:
        """Token ids of a masked text, and how many tokens end at some places.

        Args:
            masked: the text.
            places: characters, ascending.

        Returns:
            The ids that `encode` gives, and for each place how many of them lie wholly before it; no such
            counts where they are not known.
        """
        if self._special is not None:
            pieces = self._pieces(masked)
            return self._joined(pieces), self._counts(pieces, places)
        ids = self.encode(masked)
        whole = len(split_media(masked)) == 1 and not self._plain.masks(masked)
        stops = self._stops(masked) if whole else []
        known = len(stops) == len(ids)
        return ids, array("i", (bisect_right(stops, place) for place in places if known))

    def decode(self, packed: bytes) -> str:
        """The text of packed token ids, special tokens included; empty without a fast backend."""
        if self._backend is None:
            return ""
        ids = memoryview(packed).cast("i").tolist()
        return str(self._backend.decode(ids, skip_special_tokens=False))

    def _joined(self, pieces: list[str], frame: tuple[bytes, bytes] = (b"", b"")) -> array[int]:
        known = self._known
        ids = array("i")
        ids.frombytes(b"".join([frame[0], *[known[piece] for piece in pieces], frame[1]]))
        return ids

    def _pieces(self, text: str, *, marked: bool = True) -> list[str]:
        """The text in pieces, all of which are known until the next text comes."""
        assert self._special is not None
        if self._characters > _CACHE_CHARACTERS:
            self._known.clear()
            self._inside.clear()
            self._characters = 0
        if not marked:
            text = self._plain.escape(text)
        known = self._known
        pieces: list[str] = []
        for place, part in enumerate(split_media(text)):
            if place % 2:
                pieces.append(part)
                if part not in known:
                    self._keep(part, media_run(part))
                continue
            for segment in self._special.split(part):
                if segment in known or not self._by_line or self._plain.masks(segment):
                    pieces.append(segment)
                else:
                    pieces += _LINE.split(segment)
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
            if self._plain.masks(piece):  # the tokens of the beginning alone, within a token or two
                count = max(0, len(self._known[piece]) // TOKEN_BYTES - len(self._plain_ids(piece[:place])))
            else:
                stops = self._stops(piece)
                count = len(stops) - bisect_right(stops, len(self._plain.unmask(piece[:place])))
            self._inside[piece, place] = count
            self._characters += _INSIDE_CHARACTERS
        return count

    def _stops(self, masked: str) -> list[int]:
        """Where the tokens of a text without masked tokens end in it, in characters."""
        offsets = self._backend.encode(self._plain.unmask(masked), add_special_tokens=False).offsets
        return list(accumulate((stop for _, stop in offsets), max))

    def _plain_ids(self, masked: str) -> list[int]:
        return self._plain.encode_plain(masked) if self._plain.masks(masked) else self._plain.encode(masked)

    def _learn(self, pieces: Iterable[str]) -> None:
        ordinary = []
        for piece in pieces:
            if self._plain.masks(piece):
                self._keep(piece, self._plain.encode_plain(piece))
            else:
                ordinary.append(piece)
        texts = [self._plain.unmask(piece) for piece in ordinary]
        encoded = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        for piece, found in zip(ordinary, encoded, strict=True):
            self._keep(piece, found.ids)

    def _keep(self, piece: str, ids: Sequence[int]) -> None:
        self._known[piece] = array("i", ids).tobytes()
        self._characters += len(piece) + TOKEN_BYTES * len(ids)


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
