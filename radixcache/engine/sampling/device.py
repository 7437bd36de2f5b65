"""Batched sampling in torch: rows of one kind together, one transfer at the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radixcache.engine.sampling.choice import Choice, Scores
from radixcache.engine.sampling.edits import edit
from radixcache.engine.sampling.state import Edits, Sampler
from radixcache.engine.sampling.truncation import most_likely, truncated
from radixcache.engine.sampling.weights import Cumulated, draw, unit, weights
from radixcache.engine.staging import to_device, to_host

_MOST_NUMBERS = 2**24  # intermediate results take some 100 MB each at most


class _Kind(NamedTuple):
    """How a row is sampled; rows of one kind are computed together.

    Attributes:
        edited: logits are changed first.
        greedy: the most likely token is taken.
        truncated: tokens are left out by top-k, top-p or min-p.
        top: how many of the most likely tokens to name; None without logprobs.
    """

    edited: bool
    greedy: bool
    truncated: bool
    top: int | None


def choose(rows: Tensor, samplers: Mapping[int, Sampler], edits: Mapping[int, Edits]) -> dict[int, Choice]:
    """Choose a token by each of the rows that have a sampler.

    Everything is queued, then waited for once. A token does not depend on the other rows: sums are exact,
    and all other operations are elementwise.

    Args:
        rows: logits [sequences, vocab], any floating dtype.
        samplers: by row.
        edits: by row, for those that are edited.
    """
    vocabulary = rows.shape[-1]
    kinds: defaultdict[_Kind, list[int]] = defaultdict(list)
    for index, sampler in samplers.items():
        params = sampler.params
        top = None if params.logprobs is None else min(params.logprobs, vocabulary)
        cut = not sampler.greedy and sampler.truncates(vocabulary)
        kinds[_Kind(index in edits, sampler.greedy, cut, top)].append(index)
    most = _most_rows(rows)
    queued: list[tuple[list[int], Tensor]] = []
    for kind, members in kinds.items():
        for first in range(0, len(members), most):
            some = members[first : first + most]
            changes = [edits[index] for index in some if kind.edited]
            states = [samplers[index] for index in some]
            queued.append((some, _chosen(_selected(rows, some), states, changes, kind)))
    return {
        index: _choice(row)
        for (some, _), values in zip(queued, _fetched([part for _, part in queued]), strict=True)
        for index, row in zip(some, values, strict=True)
    }


def score(rows: Tensor, tokens: Sequence[int], top: int) -> list[Choice]:
    """Each row's token with what its log-probability is computed from.

    Args:
        rows: logits [tokens, vocab], any floating dtype.
        tokens: a token of each row.
        top: how many of the most likely tokens to find, the size of the vocabulary at most.
    """
    given = to_device(np.asarray(tokens, dtype=np.int64), rows.device)
    queued = []
    most = _most_rows(rows)
    for first in range(0, len(rows), most):
        logits, own = rows[first : first + most].float(), given[first : first + most]
        highest = logits.amax(-1)
        queued.append(torch.cat((_columns(own, highest, highest), _scores(logits, highest, own, top)), -1))
    return [_choice(row) for values in _fetched(queued) for row in values]


def _most_rows(rows: Tensor) -> int:
    """How many of the rows [rows, vocab] to work on together."""
    return max(1, _MOST_NUMBERS // rows.shape[-1])


def _columns(tokens: Tensor, before: Tensor, highest: Tensor) -> Tensor:
    return torch.stack([column.double() for column in (tokens, before, highest)], -1)


def _scores(logits: Tensor, highest: Tensor, tokens: Tensor, top: int) -> Tensor:
    """Scores of a token and the most likely ones [rows, 2 + 2 * top] (float64), as `_choice` reads them."""
    total = Cumulated(weights(logits, highest)).total / unit(logits.shape[-1])
    best = most_likely(logits, top)
    parts = (logits.gather(-1, tokens[:, None]), total[:, None], best, logits.gather(-1, best))
    return torch.cat([part.double() for part in parts], -1)


def _choice(row: NDArray[np.float64]) -> Choice:
    """What a row of results says: token, highest logits and maybe scores."""
    token, original, edited = row[:3].tolist()
    if len(row) == 3:
        return Choice(int(token), original, edited, None)
    logit, total = row[3:5].tolist()
    ids, logits = row[5:].reshape(2, -1)
    return Choice(int(token), original, edited, Scores(logit, total, ids.astype(np.int64), logits))


def _fetched(parts: Sequence[Tensor]) -> list[NDArray[np.float64]]:
    """Tensors [rows, columns] (float64) on the host, after one transfer."""
    if not parts:
        return []
    values: NDArray[np.float64] = to_host(torch.cat([part.flatten() for part in parts])).numpy()
    ends = np.cumsum([part.numel() for part in parts])[:-1]
    pieces = zip(np.split(values, ends), parts, strict=True)
    return [flat.reshape(tuple(part.shape)) for flat, part in pieces]


def _selected(rows: Tensor, wanted: Sequence[int]) -> Tensor:
    """The wanted rows as float32; not copied if they are that, and next to each other."""
    if wanted[-1] - wanted[0] + 1 == len(wanted):
        return rows[wanted[0] : wanted[-1] + 1].float()
    return rows.index_select(0, to_device(np.asarray(wanted, dtype=np.int64), rows.device)).float()


def _chosen(logits: Tensor, samplers: Sequence[Sampler], edits: Sequence[Edits], kind: _Kind) -> Tensor:
    """Choose a token for each row [rows, vocab] (float32) of a kind.

    Returns:
        [rows, 3 or 5 + 2 * top] (float64), as `_choice` reads them.
    """
    original, before = logits, logits.amax(-1)
    highest = before
    if kind.edited:
        logits = original.clone()
        edit(logits, edits)
        highest = logits.amax(-1)
    tokens = logits.argmax(-1) if kind.greedy else _drawn(logits, highest, samplers, cut=kind.truncated)
    columns = _columns(tokens, before, highest)
    if kind.top is None:
        return columns
    return torch.cat((columns, _scores(original, before, tokens, kind.top)), -1)


def _drawn(logits: Tensor, highest: Tensor, samplers: Sequence[Sampler], *, cut: bool) -> Tensor:
    """Draw a token for each row by its sampler's parameters and random number."""
    vocabulary = logits.shape[-1]
    columns = np.empty((5, len(samplers)))
    for row, sampler in enumerate(samplers):
        params = sampler.params
        top_k = min(params.top_k or vocabulary, vocabulary)
        columns[:, row] = sampler.draw, params.temperature, top_k, params.top_p, params.min_p
    numbers, temperature, top_k, top_p, min_p = to_device(columns, logits.device)
    weighed = weights(logits, highest, temperature.float())
    if cut:
        weighed = truncated(
            logits,
            weighed,
            top_k=top_k if (columns[2] < vocabulary).any() else None,
            top_p=top_p if (columns[3] < 1).any() else None,
            min_p=min_p if (columns[4] > 0).any() else None,
        )
    return draw(weighed, numbers)
