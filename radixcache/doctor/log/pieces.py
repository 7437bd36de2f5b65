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
from collections.abc import Iterable
from typing import Any

from radixcache.logs.record import LogRequest
from radixcache.replay.encode import EncodeError, PromptEncoder, Rendered
from radixcache.tokens import TOKEN_BYTES

__all__ = ["PieceEncoder"]

_CACHE_CHARACTERS = 1 << 25
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
        ids = array("i")
        if request.messages is not None:
            ids.frombytes(self._ids(self._plain.render(request.messages, request.tools).text))
        elif self._frame is None:
            return self._plain.encode(request)
        else:
            before, after = self._frame
            ids.frombytes(before + self._ids(request.prompt or "") + after)
        if not ids:
            raise EncodeError("the prompt has no tokens")
        return ids

    def encode_answer(self, text: str) -> array[int]:
        """Token ids of an answer as it follows a prompt."""
        return self._plain.encode_answer(text)

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

    def _ids(self, text: str) -> bytes:
        assert self._special is not None
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
        packed = b"".join([known[piece] for piece in pieces])
        if self._characters > _CACHE_CHARACTERS:
            known.clear()
            self._characters = 0
        return packed

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
