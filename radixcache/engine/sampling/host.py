"""Sampling on a CPU, one row at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from radixcache.engine.sampling import row as one
from radixcache.engine.sampling.choice import Choice
from radixcache.engine.sampling.state import Edits, Sampler
from radixcache.engine.sampling.weights import unit


def choose(rows: Tensor, samplers: Mapping[int, Sampler], edits: Mapping[int, Edits]) -> dict[int, Choice]:
    """As `device.choose`, for rows on a CPU."""
    values: NDArray[np.float32] = rows.float().numpy()
    return {index: _choose(values[index], sampler, edits.get(index)) for index, sampler in samplers.items()}


def score(rows: Tensor, tokens: Sequence[int], top: int) -> list[Choice]:
    """As `device.score`, for rows on a CPU."""
    values: NDArray[np.float32] = rows.float().numpy()
    return [_score(row, int(token), top) for row, token in zip(values, tokens, strict=True)]


def _choose(original: one.Row, sampler: Sampler, changes: Edits | None) -> Choice:
    if changes is None and sampler.greedy and sampler.params.logprobs is None:
        token = int(original.argmax())  # the first NaN, if there is one
        highest = float(original[token])
        return Choice(token, highest, highest, None)
    row, params = original, sampler.params
    before = highest = float(original.max())
    if changes is not None:
        row = original.copy()
        one.edit(row, changes)
        highest = float(row.max())
    if not math.isfinite(before) or not math.isfinite(highest):
        return Choice(0, before, highest, None)
    if sampler.greedy:
        token = int(row.argmax())
    elif sampler.truncates(len(row)):
        token = one.draw_truncated(row, highest, params, sampler.draw)
    else:
        weights = one.row_weights(row, highest, params.temperature, unit(len(row)))
        token = one.draw(weights, sampler.draw)
    if params.logprobs is None:
        return Choice(token, before, highest, None)
    scored = _score(original, token, min(params.logprobs, len(row)))
    return Choice(token, before, highest, scored.scores)


def _score(row: one.Row, token: int, top: int) -> Choice:
    highest = float(row.max())
    if not math.isfinite(highest):
        return Choice(token, highest, highest, None)
    return Choice(token, highest, highest, one.row_scores(row, highest, token, top))
