"""The executor in the engine's own process: a model runner, and the samplers of its sequences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from radixcache.engine.executor import Draw, PromptScore, StepInput, StepOutput
from radixcache.engine.result import TokenLogprob
from radixcache.engine.runner import ModelRunner
from radixcache.engine.sampling import SampledToken, Sampler, prompt_logprobs, sample
from radixcache.engine.staging import to_device
from radixcache.errors import SamplingError
from radixcache.tokens import unpack


class LocalExecutor:
    """Computes steps with a `ModelRunner` and samples from their logits where these are."""

    def __init__(self, runner: ModelRunner) -> None:
        self.runner = runner
        self._samplers: dict[int, dict[int, Sampler]] = {}  # by request and index

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
        self.runner.prepare(step.new_blocks, step.copies)
        return LocalStep(self, step, self.runner.forward(step.parts) if step.parts else None)

    def forget(self, request: int) -> None:
        """Drop the samplers of a request."""
        self._samplers.pop(request, None)

    def close(self) -> None:
        """Drop all samplers and free the pool."""
        self._samplers.clear()
        self.runner.close()

    def sampler(self, draw: Draw) -> Sampler:
        """The sampler of a draw's sequence, made for its first token.

        Raises:
            SamplingError: it has sampled other tokens than the sequence has: one was lost by an error.
        """
        request, index = draw.key
        if draw.state is not None:
            params, prompt, eos_token_ids = draw.state
            tokens = unpack(prompt) if params.repetition_penalty != 1 else ()
            made = Sampler(params, tokens, eos_token_ids, index=index)
            self._samplers.setdefault(request, {})[index] = made
        sampler = self._samplers.get(request, {}).get(index)
        if sampler is None or sampler.num_tokens != draw.position:
            raise SamplingError(
                f"token {draw.position} cannot be sampled: an earlier one was lost by an error"
            )
        return sampler


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
        ends = np.cumsum([part.keep for part in self._step.parts]).tolist()
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
        found: list[list[SampledToken] | Exception] = [[] for _ in draws]
        samplers: dict[int, Sampler] = {}  # of draws that sample next, by their place
        for place, draw in enumerate(draws):
            try:
                samplers[place] = self._executor.sampler(draw)
            except Exception as error:
                found[place] = error
        verified = 0
        while samplers:
            rows = [ends[draws[place].part] - 1 - draws[place].drafted + verified for place in samplers]
            tokens = _sample_each(_select(logits, rows), list(samplers.values()))
            left: dict[int, Sampler] = {}
            for (place, sampler), token in zip(samplers.items(), tokens, strict=True):
                sampled = found[place]
                if isinstance(token, Exception):
                    found[place] = token
                    continue
                assert not isinstance(sampled, Exception)
                sampled.append(token)
                drafted = draws[place].drafted - verified
                if drafted and self._step.parts[draws[place].part].tokens[-drafted] == token.token_id:
                    left[place] = sampler
            samplers = left
            verified += 1
        return found


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
