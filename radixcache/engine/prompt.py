"""Prompts as callers give them: text or token ids, one or several."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as SequenceOf
from numbers import Integral
from typing import Any

import numpy as np

from radixcache.errors import RadixCacheError
from radixcache.models import LoadedModel
from radixcache.prompts import encode_text
from radixcache.tokens import PackedTokens, pack

Prompt = str | SequenceOf[int]


def prompt_ids(prompt: Prompt, model: LoadedModel, vocabulary: int) -> PackedTokens:
    """The token ids of one prompt, packed.

    Args:
        prompt: text, or token ids (bytes are packed ones).
        model: its tokenizer encodes text.
        vocabulary: token ids are below this.

    Raises:
        TokenError: an impossible token id, or no token ids at all.
        ValueError: no token, or one outside the vocabulary.
        RadixCacheError: text for a model without a tokenizer.
    """
    if isinstance(prompt, str):
        if model.tokenizer is None:
            raise RadixCacheError(f"{model.name} has no tokenizer: give token ids, not text")
        prompt = encode_text(model.tokenizer, prompt)
    packed = pack(prompt)
    if not packed:
        raise ValueError("the prompt is empty")
    ids = np.frombuffer(packed, "<i4")
    if ids.max() >= vocabulary:
        place = int((ids >= vocabulary).argmax())
        raise ValueError(f"token {ids[place]} at position {place} is outside the vocabulary of {vocabulary}")
    return packed


def several_prompts(prompts: Prompt | Iterable[Prompt]) -> list[Any]:
    """Each of the prompts; one alone in a list of one.

    Raises:
        ValueError: neither a prompt nor several.
    """
    given: Any = prompts
    if isinstance(given, Iterator):
        given = list(given)
    if _is_single(given):
        return [given]
    try:
        return list(given)
    except TypeError:
        raise ValueError(f"prompts must be text, token ids, or several of these, got {prompts!r}") from None


def _is_single(prompts: Any) -> bool:
    """One prompt: text, packed tokens, or token ids in a row; not a sequence of prompts."""
    if isinstance(prompts, str | bytes | bytearray | memoryview | array | range):
        return True
    dimensions = getattr(prompts, "ndim", None)
    if dimensions is not None:  # of a numpy array or a tensor
        return bool(dimensions == 1)
    try:
        first = next(iter(prompts), None)
    except TypeError:
        return False
    return isinstance(first, Integral) or getattr(first, "ndim", None) == 0
