"""Changes to logits before a token is chosen: penalties, biases and what is ruled out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radixcache.engine.sampling.masks import WORD
from radixcache.engine.sampling.state import Edits
from radixcache.engine.staging import NumberArray, to_device

_LARGEST = float(np.finfo(np.float32).max)


def edit(logits: Tensor, edits: Sequence[Edits]) -> None:
    """Changes logits [rows, vocab] (float32) in place, for each row by its edits.

    First the repetition penalty, on tokens of prompt and output (Keskar et al. 2019), then the frequency
    and presence penalties, on tokens of the output, then biases, then tokens are ruled out. What is too
    large for float32 becomes the largest number there is, so that finite logits stay finite; minus infinity
    stays what it is.
    """
    flat = logits.view(-1)
    vocabulary = logits.shape[-1]
    seen = [edit.seen for edit in edits]
    if any(map(len, seen)):
        factors = np.repeat([np.float32(edit.repetition) for edit in edits], [len(ids) for ids in seen])
        subtracted = np.concatenate([edit.subtracted for edit in edits])
        at, factor, taken = _uploaded(logits, _places(seen, vocabulary), factors, subtracted)
        before = flat[at]
        after = torch.where(before > 0, before / factor, before * factor).clamp_(-_LARGEST, _LARGEST)
        _put(flat, at, before, after - taken)
    biased = [edit.biased for edit in edits]
    if any(map(len, biased)):
        values = np.concatenate([edit.bias for edit in edits])
        at, bias = _uploaded(logits, _places(biased, vocabulary), values)
        before = flat[at]
        _put(flat, at, before, before + bias)
    banned = [edit.banned for edit in edits]
    if any(map(len, banned)):
        (at,) = _uploaded(logits, _places(banned, vocabulary))
        flat.index_fill_(0, at, -torch.inf)
    masked = [row for row, edit in enumerate(edits) if edit.allowed is not None]
    if masked:
        _mask(logits, masked, np.stack([edit.allowed for edit in edits if edit.allowed is not None]))


def _places(ids: Sequence[NDArray[np.int64]], vocabulary: int) -> NDArray[np.int64]:
    return np.concatenate([row * vocabulary + some for row, some in enumerate(ids)])


def _uploaded(logits: Tensor, *arrays: NumberArray) -> list[Tensor]:
    return [to_device(array, logits.device) for array in arrays]


def _put(flat: Tensor, at: Tensor, before: Tensor, after: Tensor) -> None:
    finite = after.clamp_(-_LARGEST, _LARGEST)
    flat.index_copy_(0, at, torch.where(before == -torch.inf, before, finite))


def _mask(logits: Tensor, rows: Sequence[int], words: NDArray[np.int32]) -> None:
    """Rule out what has no bit in `words` [masked rows, words]."""
    vocabulary = logits.shape[-1]
    packed, bits = _uploaded(logits, words, np.left_shift(1, np.arange(WORD)).astype(np.int32))
    ruled_out = (packed[:, :, None] & bits == 0).flatten(1)[:, :vocabulary]
    if len(rows) == len(logits):
        logits.masked_fill_(ruled_out, -torch.inf)
        return
    (at,) = _uploaded(logits, np.asarray(rows, np.int64))
    logits.index_copy_(0, at, logits.index_select(0, at).masked_fill_(ruled_out, -torch.inf))
