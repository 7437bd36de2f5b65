"""Penalties on tokens that have occurred before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from radixcache.engine.params import SamplingParams

_LARGEST = np.finfo(np.float32).max


class TokenCounts:
    """How often each token is in the output, and which were in the prompt.

    Kept as two parallel arrays with room to grow, so that a step costs one vectorised pass over the distinct
    tokens.
    """

    def __init__(self, prompt: Sequence[int]) -> None:
        """Counts of an empty output after `prompt`."""
        distinct = sorted(set(prompt))
        self._place = {token: place for place, token in enumerate(distinct)}
        self._ids = np.array(distinct, np.int64)
        self._counts = np.zeros(len(distinct), np.float32)

    def add(self, token: int) -> None:
        """Count one more occurrence of `token` in the output."""
        place = self._place.setdefault(token, len(self._place))
        if place == len(self._ids):
            room = max(64, place)
            self._ids = np.concatenate([self._ids, np.zeros(room, np.int64)])
            self._counts = np.concatenate([self._counts, np.zeros(room, np.float32)])
        self._ids[place] = token
        self._counts[place] += 1

    @property
    def ids(self) -> NDArray[np.int64]:
        """The distinct tokens of output and prompt [distinct]; valid until the next `add`."""
        return self._ids[: len(self._place)]

    def subtracted(self, params: SamplingParams) -> NDArray[np.float32]:
        """What frequency and presence penalties subtract from the logits of `ids` [distinct]; finite."""
        counts = self._counts[: len(self._place)]
        with np.errstate(over="ignore"):
            present = (counts > 0).astype(np.float32)
            taken = params.frequency_penalty * counts + params.presence_penalty * present
        return np.clip(taken, -_LARGEST, _LARGEST)
