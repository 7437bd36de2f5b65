"""Penalties on tokens that have been there before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from radixcache.engine.params import SamplingParams

_LARGEST = np.finfo(np.float32).max


class TokenCounts:
    """How often each token is in the output, and which were in the prompt.

    Kept as two parallel arrays with room to grow, so that a step costs one vectorised pass over the distinct
    tokens and nothing is built anew.
    """

    def __init__(self, prompt: Sequence[int]) -> None:
        """Counts of an empty output after `prompt`."""
        distinct = sorted(set(prompt))
        self._place = {token: place for place, token in enumerate(distinct)}
        self._ids = np.array(distinct, np.int64)
        self._counts = np.zeros(len(distinct), np.float32)

    def add(self, token: int) -> None:
        """`token` is once more in the output."""
        place = self._place.setdefault(token, len(self._place))
        if place == len(self._ids):
            room = max(64, place)
            self._ids = np.concatenate([self._ids, np.zeros(room, np.int64)])
            self._counts = np.concatenate([self._counts, np.zeros(room, np.float32)])
        self._ids[place] = token
        self._counts[place] += 1

    def penalise(self, row: NDArray[np.float32], params: SamplingParams) -> None:
        """Changes logits `row` ([vocab], float32) in place.

        First the repetition penalty, on tokens of prompt and output (Keskar et al. 2019), then the frequency
        and presence penalties, on tokens of the output. What is too large for float32 becomes the largest
        number there is, so that finite logits stay finite; minus infinity stays what it is.
        """
        ids, counts = self._ids[: len(self._place)], self._counts[: len(self._place)]
        logits = row[ids]
        impossible = np.isneginf(logits)
        factor = params.repetition_penalty
        with np.errstate(over="ignore", invalid="ignore"):
            if factor != 1:
                logits = _finite(np.where(logits > 0, logits / factor, logits * factor))
            taken = _finite(params.frequency_penalty * counts + params.presence_penalty * (counts > 0))
            logits = _finite(logits - taken)
        logits[impossible] = -np.inf
        row[ids] = logits


def _finite(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.clip(values, -_LARGEST, _LARGEST)
