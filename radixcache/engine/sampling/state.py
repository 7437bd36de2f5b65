"""Per-sequence sampling state."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from radixcache.engine.params import GREEDY_BELOW, SamplingParams
from radixcache.engine.sampling.draws import Draws
from radixcache.engine.sampling.masks import Bits, packed_mask
from radixcache.engine.sampling.penalties import TokenCounts


class Edits(NamedTuple):
    """What one sequence wants done to its logits before a token is chosen, in this order.

    Attributes:
        repetition: factor of the repetition penalty.
        seen: tokens that penalties apply to [seen], each once.
        subtracted: what is taken from the logit of each of them [seen].
        biased, bias: token ids [biased] and what is added to their logits.
        banned: token ids that are ruled out [banned].
        allowed: int32 words with a bit for every token that is not ruled out; None allows all.
    """

    repetition: float
    seen: NDArray[np.int64]
    subtracted: NDArray[np.float32]
    biased: NDArray[np.int64]
    bias: NDArray[np.float32]
    banned: NDArray[np.int64]
    allowed: Bits | None


_NO_IDS = np.empty(0, np.int64)
_NO_NUMBERS = np.empty(0, np.float32)


def stop_ids(params: SamplingParams, eos_token_ids: Collection[int]) -> frozenset[int]:
    """Tokens that end a sequence: the model's own unless `ignore_eos`, and `stop_token_ids`."""
    return frozenset(params.stop_token_ids) | frozenset(() if params.ignore_eos else eos_token_ids)


class Sampler:
    """The state of one sequence: its parameters, its random numbers, its tokens so far.

    Attributes:
        params: as asked for.
        stop_ids: tokens that end the sequence (the model's own unless `ignore_eos`, and `stop_token_ids`).
        num_tokens: tokens sampled so far.
        greedy: the most likely token is taken.
        plain: logits are never edited.
    """

    def __init__(
        self, params: SamplingParams, prompt: Sequence[int], eos_token_ids: Collection[int], *, index: int = 0
    ) -> None:
        """State of completion `index` of `prompt` (ids).

        With a seed, draws depend on seed, index and position alone.
        """
        self.params = params
        self.stop_ids = stop_ids(params, eos_token_ids)
        self.num_tokens = 0
        self.greedy = params.temperature < GREEDY_BELOW or params.top_k == 1
        self._index = index
        self._draws = Draws(params.seed, index)
        self._counts: TokenCounts | None = None
        if params.repetition_penalty != 1 or params.presence_penalty or params.frequency_penalty:
            self._counts = TokenCounts(prompt if params.repetition_penalty != 1 else ())
        self._biased, self._bias = _NO_IDS, _NO_NUMBERS
        if params.logit_bias:
            ids, values = zip(*params.logit_bias, strict=True)
            self._biased, self._bias = np.array(ids, np.int64), np.array(values, np.float32)
        self._output: list[int] | None = None if params.allowed is None else []
        banning = bool(self.stop_ids) and params.min_tokens > 0
        self.plain = self._counts is None and not params.logit_bias and self._output is None and not banning

    @property
    def draw(self) -> float:
        """The random number for the next token, in [0, 1); the same until `note` is called."""
        return self._draws.at(self.num_tokens)

    def truncates(self, vocabulary: int) -> bool:
        """Top-k, top-p or min-p leaves some of the tokens out."""
        params = self.params
        return 0 < params.top_k < vocabulary or params.top_p < 1 or params.min_p > 0

    def edits(self, vocabulary: int) -> Edits | None:
        """What is done to the next row of logits; None leaves it as it is.

        Raises:
            ValueError: `logit_bias` names a token outside the vocabulary, or `allowed` returns no mask.
            Exception: whatever `allowed` raises.
        """
        banned = self._banned(vocabulary)
        mask = self._mask(vocabulary)
        if self._counts is None and not len(self._biased) and not len(banned) and mask is None:
            return None
        if len(self._biased) and self._biased.max() >= vocabulary:
            raise ValueError(
                f"logit_bias has token {self._biased.max()}, the vocabulary has {vocabulary} tokens"
            )
        seen, subtracted = _NO_IDS, _NO_NUMBERS
        if self._counts is not None:
            seen, subtracted = self._counts.ids, self._counts.subtracted(self.params)
        return Edits(self.params.repetition_penalty, seen, subtracted, self._biased, self._bias, banned, mask)

    def note(self, token: int) -> None:
        """`token` is now part of the output."""
        self.num_tokens += 1
        if self._counts is not None:
            self._counts.add(token)
        if self._output is not None:
            self._output.append(token)

    def _banned(self, vocabulary: int) -> NDArray[np.int64]:
        if not self.stop_ids or self.num_tokens >= self.params.min_tokens:
            return _NO_IDS
        return np.array([token for token in self.stop_ids if token < vocabulary], np.int64)

    def _mask(self, vocabulary: int) -> Bits | None:
        if self.params.allowed is None or self._output is None:
            return None
        mask = self.params.allowed(self._index, self._output)
        return None if mask is None else packed_mask(mask, vocabulary)
