"""What computes and samples a step, and the messages it takes and gives.

The step loop knows tokens and blocks; logits never leave the executor. What goes in and comes out can be
pickled, so an executor may be in another process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from radixcache.cache.lease import BlockCopy
from radixcache.engine.params import SamplingParams
from radixcache.engine.result import TokenLogprob
from radixcache.engine.sampling import SampledToken
from radixcache.engine.step import SequenceRows
from radixcache.tokens import PackedTokens

SequenceKey = tuple[int, int]
"""Names a sequence: number of the request, index of the completion."""


class SamplerState(NamedTuple):
    """What sampling starts with for one sequence: see `Sampler`."""

    params: SamplingParams
    prompt: PackedTokens
    eos_token_ids: frozenset[int]


class Draw(NamedTuple):
    """Sample for one sequence.

    Attributes:
        key: the sequence; several may sample from the same row.
        part: index of the part of the step whose last row of logits is sampled from.
        position: tokens sampled for the sequence before.
        drafted: the last so many tokens of the part are drafts. A token is sampled from the row before each
            draft and from the last row, one after the other, up to the first that is not the draft.
        state: what sampling starts with, if `position` is 0.
    """

    key: SequenceKey
    part: int
    position: int
    drafted: int = 0
    state: SamplerState | None = None


class PromptScore(NamedTuple):
    """Give logprobs of tokens of a prompt.

    Attributes:
        part: index of the part of the step, which keeps every row.
        skip: rows of it to leave out.
        following: the tokens after the other rows; there may be fewer of them.
        top: how many of the most likely tokens to name for each.
    """

    part: int
    skip: int
    following: PackedTokens
    top: int


@dataclass(frozen=True, slots=True)
class StepInput:
    """One step.

    Attributes:
        parts: new tokens of each sequence; their `keep` covers draws and scores. Without any, blocks are
            cleared and copied and nothing is computed.
        new_blocks: blocks to clear first.
        copies: block copies to do next.
        draws: what to sample.
        scores: prompt tokens to give logprobs of.
        loaded: blocks that were filled from elsewhere since the step before: nothing read from them earlier
            is used again.
    """

    parts: Sequence[SequenceRows]
    new_blocks: Sequence[int] = ()
    copies: Sequence[BlockCopy] = ()
    draws: Sequence[Draw] = ()
    scores: Sequence[PromptScore] = ()
    loaded: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What came of a step. An error stands for what could not be had, and harms nothing else.

    Attributes:
        tokens: for each draw the tokens, at least one.
        scores: for each score the logprobs.
    """

    tokens: list[list[SampledToken] | Exception] = field(default_factory=list)
    scores: list[list[TokenLogprob] | Exception] = field(default_factory=list)


class PendingStep(Protocol):
    """A step that may still be computed."""

    def result(self) -> StepOutput:
        """What came of it. Waits for the device only if something was sampled or scored.

        Raises:
            Exception: the step was not computed; it can be tried again, whole or in parts.
        """


class Executor(Protocol):
    """A model, its KV pool and the sampling state of every sequence, on one or more devices."""

    @property
    def asynchronous(self) -> bool:
        """A step may still be computed while the next ones are prepared."""

    @property
    def batch_invariant(self) -> bool:
        """A row's logits do not depend on what else is in its step."""

    @property
    def variance(self) -> str:
        """Why they may; empty if they do not."""

    def begin(self, step: StepInput) -> PendingStep:
        """Start computing a step: its blocks are cleared and copied, keys and values stored, tokens sampled.

        Raises:
            Exception: the step was not computed; it can be tried again, whole or in parts.
        """

    def forget(self, request: int) -> None:
        """Drop the sampling state of a request's sequences; it has ended. Unknown numbers are ignored."""

    def close(self) -> None:
        """Free the pool; no step comes afterwards."""
