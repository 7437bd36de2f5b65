"""Which tokens a request allows next, as packed bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Bits = NDArray[np.int32]

WORD = 32
"""Tokens per word of a mask."""


def words_for(vocabulary: int) -> int:
    """Number of int32 words in a mask of `vocabulary` tokens."""
    return -(-vocabulary // WORD)


def packed_mask(mask: Any, vocabulary: int) -> Bits:
    """What `SamplingParams.allowed` returned, as int32 words [ceil(vocabulary / 32)].

    Token t is bit t % 32 of word t // 32. Tokens beyond the end of a shorter mask are not allowed.

    Raises:
        ValueError: the mask is neither boolean nor int32, has more than one row, or is too long.
    """
    array = mask.detach().cpu().numpy() if isinstance(mask, torch.Tensor) else np.asarray(mask)
    if array.ndim == 2 and len(array) == 1:
        array = array[0]
    words = words_for(vocabulary)
    longest = {"bool": vocabulary, "int32": words}.get(str(array.dtype))
    if array.ndim != 1 or longest is None or len(array) > longest:
        raise ValueError(
            f"allowed must return at most {vocabulary} booleans or {words} int32 words, "
            f"got {array.dtype} of shape {array.shape}"
        )
    octets = array if array.dtype == np.int32 else np.packbits(array, bitorder="little")
    octets = octets.astype(octets.dtype.newbyteorder("<"), copy=False).view(np.uint8)
    out = np.zeros(words * WORD // 8, np.uint8)
    out[: len(octets)] = octets
    return out.view("<i4").astype(np.int32, copy=False)


def unpacked_mask(words: Bits, vocabulary: int) -> NDArray[np.bool_]:
    """The booleans [vocabulary] of a packed mask."""
    octets = words.astype("<i4", copy=False).view(np.uint8)
    return np.unpackbits(octets, count=vocabulary, bitorder="little").view(np.bool_)
