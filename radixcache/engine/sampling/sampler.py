"""Logits -> next tokens, for a batch in which every sequence has its own parameters."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radixcache.engine.params import GREEDY_BELOW, SamplingParams
from radixcache.engine.result import TokenLogprob
from radixcache.engine.sampling.penalties import TokenCounts
from radixcache.engine.staging import to_device, to_host
from radixcache.errors import SamplingError

_FIRST_CANDIDATES = 256  # the nucleus is rarely larger; a full sort of the vocabulary costs milliseconds

Row = NDArray[np.float32]
Ids = NDArray[np.int64]


class SampledToken(NamedTuple):
    """A token, and how likely it was if that was asked for."""

    token_id: int
    logprob: TokenLogprob | None


class Sampler:
    """What sampling has to know of one sequence: its parameters, its random numbers, its tokens so far.

    Attributes:
        params: as asked for.
        stop_ids: tokens that end the sequence (the model's own unless `ignore_eos`, and `stop_token_ids`).
        num_tokens: tokens sampled so far.
    """

    def __init__(
        self, params: SamplingParams, prompt: Sequence[int], eos_token_ids: Collection[int], *, index: int = 0
    ) -> None:
        """State of continuation `index` of `prompt` (ids).

        With a seed, draws depend on seed and index alone.
        """
        self.params = params
        self.stop_ids = stop_ids(params, eos_token_ids)
        self.num_tokens = 0
        self._greedy = params.temperature < GREEDY_BELOW
        self._random = random.Random(None if params.seed is None else f"{params.seed}/{index}")
        self._point: float | None = None
        self._counts: TokenCounts | None = None
        if params.repetition_penalty != 1 or params.presence_penalty or params.frequency_penalty:
            self._counts = TokenCounts(prompt if params.repetition_penalty != 1 else ())

    @property
    def plain(self) -> bool:
        """The next token is the likeliest one of the untouched logits, and nothing more is asked for."""
        return self._greedy and self._counts is None and self.params.logprobs is None and not self._bans_stops

    @property
    def _bans_stops(self) -> bool:
        return self.num_tokens < self.params.min_tokens and bool(self.stop_ids)

    def draw(self, row: Row) -> SampledToken:
        """The next token by logits `row` ([vocab], float32; left as it is).

        Does not note it: until `note` is called, the same row gives the same token again.

        Raises:
            SamplingError: a logit is NaN or plus infinity, or no token is left to choose.
        """
        _check_highest(float(row.max()))
        params = self.params
        original = row
        if self._counts is not None or self._bans_stops:
            row = row.copy()
        if self._counts is not None:
            self._counts.penalise(row, params)
        if self._bans_stops:
            row[[token for token in self.stop_ids if token < len(row)]] = -np.inf
            _check_highest(float(row.max()))
        token = int(row.argmax()) if self._greedy else self._sampled(row)
        if params.logprobs is None:
            return SampledToken(token, None)
        return SampledToken(token, token_logprob(original, token, params.logprobs))

    def note(self, token: int) -> None:
        """`token` is now part of the output."""
        self.num_tokens += 1
        self._point = None
        if self._counts is not None:
            self._counts.add(token)

    def _sampled(self, row: Row) -> int:
        params = self.params
        with np.errstate(over="ignore"):  # to minus infinity, which is what is meant
            scaled = (row - row.max()) / np.float32(params.temperature)
        ids: Ids | None = None
        if params.top_k or params.top_p < 1:
            ids, weights = _candidates(scaled, params.top_k, params.top_p)
        else:
            weights = np.exp(scaled)
        if params.min_p:
            weights[weights < params.min_p * weights.max()] = 0.0
        cumulated = weights.cumsum(dtype=np.float64)
        total = float(cumulated[-1])
        # Below the total even if rounding says otherwise, so that a token of no probability never comes.
        if self._point is None:
            self._point = self._random.random()
        point = min(self._point * total, math.nextafter(total, 0.0))
        at = int(cumulated.searchsorted(point, side="right"))
        return at if ids is None else int(ids[at])


def stop_ids(params: SamplingParams, eos_token_ids: Collection[int]) -> frozenset[int]:
    """Tokens that end a sequence: the model's own unless `ignore_eos`, and `stop_token_ids`."""
    return frozenset(params.stop_token_ids) | frozenset(() if params.ignore_eos else eos_token_ids)


def sample(rows: Tensor, samplers: Sequence[Sampler]) -> list[SampledToken | SamplingError]:
    """One token for each sequence, noted in its sampler.

    Rows that are plainly greedy take one argmax together; each other row is worked on alone, by numpy, so a
    token depends on its own row and sampler only. A row by which no token can be chosen has its error in
    the token's place, and harms no other.

    Args:
        rows: logits [sequences, vocab], any floating dtype, any device; left as they are.
        samplers: one for each row.

    Raises:
        ValueError: rows and samplers differ in number.
    """
    if len(rows) != len(samplers):
        raise ValueError(f"{len(rows)} rows of logits for {len(samplers)} samplers")
    found: dict[int, SampledToken | SamplingError] = {}
    plain = [index for index, sampler in enumerate(samplers) if sampler.plain]
    if plain:
        found.update(zip(plain, _likeliest(rows, plain), strict=True))
    others = [index for index in range(len(samplers)) if index not in found]
    if others:
        for index, row in zip(others, _host_rows(rows, others), strict=True):
            try:
                found[index] = samplers[index].draw(row)
            except SamplingError as error:
                found[index] = error
    for index, token in found.items():
        if not isinstance(token, SamplingError):
            samplers[index].note(token.token_id)
    return [found[index] for index in range(len(samplers))]


def token_logprob(row: Row, token: int, top: int) -> TokenLogprob:
    """How likely `token` is by logits `row` ([vocab], float32), beside the `top` likeliest tokens.

    Raises:
        SamplingError: a logit is NaN or plus infinity, or none is finite.
    """
    highest = float(row.max())
    _check_highest(highest)
    with np.errstate(over="ignore"):  # to minus infinity, which is what is meant
        normaliser = highest + math.log(float(np.exp(row - highest).sum(dtype=np.float64)))
    best = _highest(row, min(top, len(row)))
    pairs = zip(best.tolist(), row[best].tolist(), strict=True)
    named = tuple((index, logit - normaliser) for index, logit in pairs)
    return TokenLogprob(token, float(row[token]) - normaliser, named)


def prompt_logprobs(rows: Tensor, following: Sequence[int], top: int) -> list[TokenLogprob]:
    """How likely each token of `following` was by the row of logits before it.

    Args:
        rows: logits [tokens, vocab], any floating dtype, any device.
        following: the token after each row.
        top: how many of the likeliest tokens to name for each row.

    Raises:
        SamplingError: as `token_logprob`.
    """
    host = _host_rows(rows, range(len(rows)))
    return [token_logprob(row, int(token), top) for row, token in zip(host, following, strict=True)]


def _check_highest(logit: float) -> None:
    """Refuse a row by its highest logit, which is NaN if any of them is."""
    if not math.isfinite(logit):
        reason = "no token is left to choose from" if logit == -math.inf else f"a logit is {logit}"
        raise SamplingError(f"no token can be sampled: {reason}")


def _likeliest(rows: Tensor, wanted: Sequence[int]) -> list[SampledToken | SamplingError]:
    """Argmax of the wanted rows. On the CPU by numpy, which is over ten times as fast at it as torch 2.13."""
    if rows.device.type == "cpu":
        host = _host_rows(rows, wanted)
        ids = [int(row.argmax()) for row in host]
        return [_greedy(token, float(row[token])) for token, row in zip(ids, host, strict=True)]
    highest, at = _select(rows, wanted).max(-1)
    both = to_host(torch.stack((at.double(), highest.double()), -1)).tolist()
    return [_greedy(int(token), logit) for token, logit in both]


def _greedy(token: int, logit: float) -> SampledToken | SamplingError:
    try:
        _check_highest(logit)
    except SamplingError as error:
        return error
    return SampledToken(token, None)


def _host_rows(rows: Tensor, wanted: Sequence[int]) -> list[Row]:
    """The wanted rows as numpy sees them: float32 on the CPU without a copy, others fetched together."""
    if rows.device.type == "cpu" and rows.dtype == torch.float32:
        host: NDArray[np.float32] = rows.detach().numpy()
        return [host[index] for index in wanted]
    fetched: NDArray[np.float32] = to_host(_select(rows.detach(), wanted).float()).numpy()
    return list(fetched)


def _select(rows: Tensor, wanted: Sequence[int]) -> Tensor:
    """The wanted rows, in their order, each wanted once."""
    if len(wanted) == len(rows):
        return rows
    return rows[to_device(np.asarray(wanted, dtype=np.int64), rows.device)]


def _candidates(scaled: Row, top_k: int, top_p: float) -> tuple[Ids, Row]:
    """Ids and weights (probabilities up to a factor) of what top-k and then top-p leave, likeliest first.

    The nucleus (Holtzman et al. 2020) is the shortest run of likeliest tokens whose probabilities reach
    `top_p`; of the distribution that top-k leaves, if both are given.
    """
    vocabulary = len(scaled)
    count = min(top_k or _FIRST_CANDIDATES, vocabulary)
    total = 0.0 if top_k else float(np.exp(scaled).sum(dtype=np.float64))
    while True:
        ids = _highest(scaled, count)
        weights = np.exp(scaled[ids])
        if top_p == 1:
            return ids, weights
        cumulated = weights.cumsum(dtype=np.float64)
        inside = int((cumulated - weights < top_p * (total or cumulated[-1])).sum())
        if inside < count or top_k or count == vocabulary:
            return ids[:inside], weights[:inside]
        count = min(8 * count, vocabulary)


def _highest(values: Row, count: int) -> Ids:
    """Ids of the `count` highest values, highest first, the lower id first among equals."""
    if count == 0:
        return np.empty(0, np.int64)
    ids = values.argpartition(len(values) - count)[len(values) - count :]
    order = np.lexsort((ids, -values[ids]))
    return ids[order]
