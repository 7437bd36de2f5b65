"""The executor in the engine's own process: a model runner, and the samplers of its sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
from torch import Tensor

from radixcache.engine.executor import Draw, PromptScore, StepInput, StepOutput
from radixcache.engine.result import TokenLogprob
from radixcache.engine.runner import ModelRunner
from radixcache.engine.sampling import SampledToken, Sampler, prompt_logprobs, sample
from radixcache.engine.staging import to_device
from radixcache.errors import SamplingError
from radixcache.tokens import unpack


@dataclass(slots=True, eq=False)
class Sampled:
    """A sequence's sampler, and what it sampled last: a draw that is repeated gets the same tokens.

    Attributes:
        sampler: knows how many tokens were sampled.
        first: position of the first of `tokens`.
        tokens: those of the last draw, up to the last one sampled.
    """

    sampler: Sampler
    first: int = 0
    tokens: list[SampledToken] = field(default_factory=list)


class LocalExecutor:
    """Computes steps with a `ModelRunner` and samples from their logits where these are."""

    def __init__(self, runner: ModelRunner) -> None:
        self.runner = runner
        self._sampled: dict[int, dict[int, Sampled]] = {}  # by request and index

    @property
    def asynchronous(self) -> bool:
        """A step may still be computed while the next ones are prepared."""
        return self.runner.asynchronous

    @property
    def batch_invariant(self) -> bool:
        """A row's logits do not depend on what else is in its step."""
        return self.runner.batch_invariant

    @property
    def variance(self) -> str:
        """Why they may; empty if they do not."""
        return self.runner.variance

    def begin(self, step: StepInput) -> LocalStep:
        """Compute a step, or queue it on the device; its tokens are sampled by `LocalStep.result`."""
        if step.loaded:
            self.runner.renewed(step.loaded)
        self.runner.prepare(step.new_blocks, step.copies)
        return LocalStep(self, step, self.runner.forward(step.parts) if step.parts else None)

    def forget(self, request: int) -> None:
        """Drop the samplers of a request."""
        self._sampled.pop(request, None)

    def close(self) -> None:
        """Drop all samplers and free the pool."""
        self._sampled.clear()
        self.runner.close()

    def sampled(self, draw: Draw) -> Sampled:
        """The sampler of a draw's sequence, made for its first token, and what it gave before.

        Raises:
            SamplingError: a token that the sequence lacks was lost by an error.
        """
        request, index = draw.key
        if draw.state is not None:
            params, prompt, eos_token_ids = draw.state
            tokens = unpack(prompt) if params.repetition_penalty != 1 else ()
            made = Sampled(Sampler(params, tokens, eos_token_ids, index=index))
            self._sampled.setdefault(request, {})[index] = made
            return made
        try:
            found = self._sampled[request][index]
        except KeyError:
            raise _lost(draw) from None
        count = found.sampler.num_tokens
        if count != draw.position and not (
            found.first <= draw.position < count == found.first + len(found.tokens)
        ):
            raise _lost(draw)
        return found


class LocalStep:
    """A step whose logits are there, or on their way."""

    def __init__(self, executor: LocalExecutor, step: StepInput, logits: Tensor | None) -> None:
        self._executor = executor
        self._step = step
        self._logits = logits

    def result(self) -> StepOutput:
        """Sample and score; once."""
        output = StepOutput()
        if self._logits is None or not (self._step.draws or self._step.scores):
            return output
        ends = list(accumulate([part.keep for part in self._step.parts]))
        output.scores.extend(self._score(self._logits, score, ends) for score in self._step.scores)
        output.tokens.extend(self._sample(self._logits, ends))
        return output

    def _score(self, logits: Tensor, score: PromptScore, ends: list[int]) -> list[TokenLogprob] | Exception:
        following = unpack(score.following)
        if not following:
            return []
        first = ends[score.part] - self._step.parts[score.part].keep + score.skip
        try:
            return prompt_logprobs(logits[first : first + len(following)], following, score.top)
        except Exception as error:
            return error

    def _sample(self, logits: Tensor, ends: list[int]) -> list[list[SampledToken] | Exception]:
        """The tokens of each draw. Drafts are verified one after the other, all sequences together."""
        draws = self._step.draws
        found: list[list[SampledToken] | Exception] = []
        places: list[int] = []  # of draws that sample next, with their samplers and rows
        samplers: list[Sampler] = []
        rows: list[int] = []
        for place, draw in enumerate(draws):
            try:
                sampled = self._executor.sampled(draw)
            except Exception as error:
                found.append(error)
                continue
            if draw.position < sampled.sampler.num_tokens:
                found.append(self._again(draw, sampled))
                continue
            # The answer is what is remembered: no token is lost between the two.
            sampled.first, sampled.tokens = draw.position, []
            found.append(sampled.tokens)
            places.append(place)
            samplers.append(sampled.sampler)
            rows.append(ends[draw.part] - 1 - draw.drafted)
        while places:
            left: list[int] = []
            left_samplers: list[Sampler] = []
            left_rows: list[int] = []
            tokens = _sample_each(_select(logits, rows), samplers)
            for place, sampler, row, token in zip(places, samplers, rows, tokens, strict=True):
                answer = found[place]
                if isinstance(token, Exception):
                    found[place] = token
                    continue
                assert type(answer) is list
                answer.append(token)
                if draws[place].drafted and self._follows(draws[place], len(answer), token):
                    left.append(place)
                    left_samplers.append(sampler)
                    left_rows.append(row + 1)
            places, samplers, rows = left, left_samplers, left_rows
        return found

    def _again(self, draw: Draw, sampled: Sampled) -> list[SampledToken]:
        """The tokens that a draw was answered with before, up to the first that is not its draft."""
        answer: list[SampledToken] = []
        for token in sampled.tokens[draw.position - sampled.first :]:
            answer.append(token)
            if not self._follows(draw, len(answer), token):
                break
        return answer

    def _follows(self, draw: Draw, count: int, token: SampledToken) -> bool:
        """The last of a draw's first `count` tokens is the draft for its place, so another may follow."""
        tokens, left = self._step.parts[draw.part].tokens, draw.drafted - count + 1
        return left > 0 and bool(tokens[-left] == token.token_id)


def _lost(draw: Draw) -> SamplingError:
    return SamplingError(f"token {draw.position} cannot be sampled: an earlier one was lost by an error")


def _select(logits: Tensor, rows: list[int]) -> Tensor:
    if rows == list(range(len(logits))):
        return logits
    return logits[to_device(np.asarray(rows, dtype=np.int64), logits.device)]


def _sample_each(logits: Tensor, samplers: list[Sampler]) -> Sequence[SampledToken | Exception]:
    """A token for each row of `logits` `[samplers, vocabulary]`, or what keeps it from having one."""
    noted = [sampler.num_tokens for sampler in samplers]
    try:
        return sample(logits, samplers)
    except Exception as error:
        if len(samplers) == 1:
            return [error]
        # Row by row. A row that was drawn already draws the same token; one that was noted is lost.
        return [
            error if sampler.num_tokens > before else _sample_each(logits[row : row + 1], [sampler])[0]
            for row, (sampler, before) in enumerate(zip(samplers, noted, strict=True))
        ]
