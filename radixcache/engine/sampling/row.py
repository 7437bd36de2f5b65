"""Sampling from one row of logits in numpy, for CPUs.

Computes the same integer weights as `weights` and, from them, the same tokens as `truncation`. On a CPU this
is faster than torch: unlikely tokens are dropped before sorting, a row stays in the processor's cache, and
numpy calls cost a fraction of torch calls.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from radixcache.engine.params import SamplingParams
from radixcache.engine.sampling.choice import Scores
from radixcache.engine.sampling.masks import unpacked_mask
from radixcache.engine.sampling.state import Edits
from radixcache.engine.sampling.weights import CHUNK, unit

Row = NDArray[np.float32]
Ids = NDArray[np.int64]

_SORTED = 512  # values that sorting is faster for than another histogram
_BUCKETS = 4095
_LARGEST = np.finfo(np.float32).max


def edit(row: Row, edits: Edits) -> None:
    """As `edits.edit`, for one row [vocab]."""
    repetition, seen, subtracted, biased, bias, banned, allowed = edits
    with np.errstate(over="ignore", invalid="ignore"):
        if len(seen):
            before = row[seen]
            penalised = np.where(before > 0, before / np.float32(repetition), before * np.float32(repetition))
            _put(row, seen, before, np.clip(penalised, -_LARGEST, _LARGEST) - subtracted)
        if len(biased):
            before = row[biased]
            _put(row, biased, before, before + bias)
    row[banned] = -np.inf
    if allowed is not None:
        row[~unpacked_mask(allowed, len(row))] = -np.inf


def row_weights(values: Row, highest: float, temperature: float, most: float) -> Row:
    """As `weights.weights`, for values of one row.

    Args:
        values: logits [any] (float32).
        highest: the highest of the row, which is finite.
        temperature: divides them.
        most: the weight of the highest, `unit` of the vocabulary.
    """
    with np.errstate(over="ignore"):  # to minus infinity
        scaled = values - np.float32(highest)
        if temperature != 1:
            scaled /= np.float32(temperature)
    np.exp(scaled, out=scaled)
    scaled *= np.float32(most)
    np.rint(scaled, out=scaled)
    return scaled


def draw(weights: Row, number: float) -> int:
    """As `weights.draw`, for one row [vocab] and a random number in [0, 1)."""
    sums = _chunk_sums(weights)
    ends = sums.cumsum()
    target = min(np.floor(number * ends[-1]) + 1, ends[-1])
    chunk = int(ends.searchsorted(target))
    inside = weights[chunk * CHUNK : (chunk + 1) * CHUNK].cumsum(dtype=np.float64)
    return chunk * CHUNK + int((inside + (ends[chunk] - sums[chunk])).searchsorted(target))


def draw_truncated(row: Row, highest: float, params: SamplingParams, number: float) -> int:
    """As `weights.draw` of what `truncation.truncated` leaves, for one row [vocab] and its highest logit."""
    most = unit(len(row))
    ids: Ids | None = None
    if 0 < params.top_k < len(row):
        ids = _top(row, params.top_k)
        row = row[ids]
    weights = row_weights(row, highest, params.temperature, most)
    if params.top_p < 1:
        kept = _nucleus(row, weights, params.top_p)
        ids, weights = kept if ids is None else ids[kept], weights[kept]
    if params.min_p > 0:
        kept = np.flatnonzero(weights >= np.float32(params.min_p) * np.float32(most))
        ids, weights = kept if ids is None else ids[kept], weights[kept]
    place = draw(weights, number)
    return place if ids is None else int(ids[place])


def row_scores(row: Row, highest: float, token: int, top: int) -> Scores:
    """What the log-probability of a token and of the `top` most likely ones is computed from."""
    most = unit(len(row))
    total = float(_chunk_sums(row_weights(row, highest, 1.0, most)).sum()) / most
    ids = most_likely(row, top)
    return Scores(float(row[token]), total, ids, row[ids].astype(np.float64))


def most_likely(row: Row, count: int) -> Ids:
    """As `truncation.most_likely`, for one row [vocab]."""
    if count == 0:
        return np.empty(0, np.int64)
    ids = _top(row, count)
    return ids[np.argsort(-row[ids], kind="stable")]


def _chunk_sums(weights: Row) -> NDArray[np.float64]:
    """Sums of each `CHUNK` weights; the last may be of fewer."""
    exact = weights.astype(np.float64)
    whole = len(exact) - len(exact) % CHUNK
    sums = exact[:whole].reshape(-1, CHUNK).sum(-1)
    return sums if whole == len(exact) else np.append(sums, exact[whole:].sum())


def _put(row: Row, ids: Ids, before: Row, after: Row) -> None:
    row[ids] = np.where(before == -np.inf, before, np.clip(after, -_LARGEST, _LARGEST))


def _top(row: Row, count: int) -> Ids:
    """Ids of the `count` highest values, the lower id first among equals; in ascending order."""
    if count >= len(row):
        return np.arange(len(row))
    whole = len(row) // CHUNK
    if 4 * count > whole:
        return _down_to(row, _nth(row, count), count)
    # `count` chunks have a value of at least this: the values sought are no lower.
    bound = _nth(row[: whole * CHUNK].reshape(whole, CHUNK).max(-1), count)
    near = np.flatnonzero(row >= bound)
    row = row[near]
    return near[_down_to(row, _nth(row, count), count)]


def _nth(values: Row, count: int) -> np.float32:
    """The lowest of the `count` highest values."""
    lowest: np.float32 = np.partition(values, len(values) - count)[len(values) - count]
    return lowest


def _down_to(row: Row, last: np.float32, count: int) -> Ids:
    """As `_top`, where the lowest of the highest values is known."""
    ids = np.flatnonzero(row >= last)
    if len(ids) > count:
        ids = np.delete(ids, np.flatnonzero(row[ids] == last)[count - len(ids) :])
    return ids


def _nucleus(row: Row, weights: Row, top_p: float) -> Ids:
    """Ids of the shortest run of the best tokens that has `top_p` of the weight; in ascending order."""
    total = float(weights.sum(dtype=np.float64))
    need = top_p * total
    # Tokens below the mean of what may be left out weigh less than that together.
    heavy = np.flatnonzero(weights >= max(1.0, (total - need) / len(weights)))
    near = np.flatnonzero(row >= row[heavy].min())
    row = row[near]
    return near[_down_to(row, *_run(row, weights[near], need))]


def _run(row: Row, weights: Row, need: float) -> tuple[np.float32, int]:
    """The last value and the length of the shortest run of the highest values that weighs `need`.

    Histograms of the weights narrow down where the run ends, until what is left is cheap to sort.
    """
    count = 0
    while len(row) > _SORTED:
        highest, lowest = float(row.max()), float(row.min())
        if highest == lowest:
            break
        # Linear in the value and so in its order; float64, because the range may be too large for float32.
        buckets = ((highest - row.astype(np.float64)) * (_BUCKETS / (highest - lowest))).astype(np.int64)
        ends = np.bincount(buckets, weights).cumsum()
        end = int(ends.searchsorted(need))
        inside = np.flatnonzero(buckets == end)
        if len(inside) == len(row):
            break
        count += int(np.count_nonzero(buckets < end))
        need -= float(ends[end - 1]) if end else 0.0
        row, weights = row[inside], weights[inside]
    order = np.argsort(-row, kind="stable")
    place = int(weights[order].cumsum(dtype=np.float64).searchsorted(need))
    return row[order[place]], count + place + 1
