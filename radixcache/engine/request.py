"""A request inside the engine, and the sequences it is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter

from torch import Tensor

from radixcache.cache.lease import Lease
from radixcache.engine.detokenize import TextStream
from radixcache.engine.handle import RequestHandle
from radixcache.engine.params import SamplingParams
from radixcache.engine.result import Completion, GenerationResult, TokenLogprob
from radixcache.engine.sampling import Sampler, prompt_logprobs
from radixcache.models import LoadedModel
from radixcache.tokens import pack


@dataclass(slots=True, eq=False)
class Request:
    """What was asked for, and what is known of it so far.

    A request becomes `params.n` sequences: one computes the prompt, the others fork from it.
    """

    handle: RequestHandle
    prompt: tuple[int, ...]
    params: SamplingParams
    namespace: str
    submitted_at: float = field(default_factory=perf_counter)
    admitted_at: float | None = None
    first_token_at: float | None = None
    cached_tokens: int = 0
    misses: dict[str, int] = field(default_factory=dict)
    diverged_at: int | None = None
    prompt_logprobs: list[TokenLogprob | None] | None = None
    sequences: list[Sequence] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """All sequences have ended."""
        return len(self.sequences) == self.params.n and all(
            sequence.finish_reason is not None for sequence in self.sequences
        )

    def new_sequence(self, model: LoadedModel) -> Sequence:
        """Add a sequence to the request.

        Raises:
            Exception: the model's tokenizer cannot be decoded with; nothing has been added.
        """
        index = len(self.sequences)
        sampler = Sampler(self.params, self.prompt, model.eos_token_ids, index=index)
        text = None
        if model.tokenizer is not None:
            text = TextStream(model.tokenizer, self.prompt, stop=self.params.stop)
        sequence = Sequence(self, index, sampler, text)
        self.sequences.append(sequence)
        return sequence

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Logprobs of the prompt were asked for, and some are missing."""
        return self.params.prompt_logprobs is not None and (
            self.prompt_logprobs is None or len(self.prompt_logprobs) < len(self.prompt)
        )

    def note_prompt_logprobs(self, start: int, logits: Tensor) -> None:
        """Take missing logprobs of the prompt from `logits` `[tokens, vocab]` of its tokens from `start`."""
        wanted = self.params.prompt_logprobs
        assert wanted is not None
        if self.prompt_logprobs is None:
            self.prompt_logprobs = [None]
        known = max(start + 1, len(self.prompt_logprobs))
        following = self.prompt[known : start + len(logits) + 1]
        skipped = known - (start + 1)
        self.prompt_logprobs.extend(
            prompt_logprobs(logits[skipped : skipped + len(following)], following, wanted)
        )

    def result(self) -> GenerationResult:
        """What the caller gets; call when finished or aborted."""
        now = perf_counter()
        first = self.first_token_at if self.first_token_at is not None else now
        started = self.admitted_at if self.admitted_at is not None else now
        return GenerationResult(
            request_id=self.handle.request_id,
            prompt_tokens=len(self.prompt),
            cached_tokens=self.cached_tokens,
            completion_tokens=sum(len(sequence.output_ids) for sequence in self.sequences),
            ttft=first - self.submitted_at,
            latency=now - self.submitted_at,
            queue_time=started - self.submitted_at,
            misses=dict(self.misses),
            diverged_at=self.diverged_at,
            completions=tuple(sequence.completion() for sequence in self.sequences),
            prompt_logprobs=None if self.prompt_logprobs is None else tuple(self.prompt_logprobs),
        )


@dataclass(slots=True, eq=False)
class Sequence:
    """One line of tokens: the prompt and what has been generated after it.

    Attributes:
        lease: its blocks while it runs; None while it waits (new or preempted).
        passes: how often a later request was admitted before it.
    """

    request: Request
    index: int
    sampler: Sampler
    text: TextStream | None
    output_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: str | None = None
    lease: Lease | None = None
    passes: int = 0

    @property
    def preempted(self) -> bool:
        """It, or the sequence it forks from, ran before: it is resumed, and not counted again."""
        return bool(self.output_ids) or self.request.admitted_at is not None

    @property
    def num_tokens(self) -> int:
        """Tokens of prompt and output."""
        return len(self.request.prompt) + len(self.output_ids)

    @property
    def remaining(self) -> int:
        """Tokens that it may yet generate."""
        return self.request.params.max_tokens - len(self.output_ids)

    @property
    def readable(self) -> int | None:
        """Tokens that it may reuse; None for all. If it needs the prompt's logits: those that it has."""
        request = self.request
        if request.params.prompt_logprobs is None:
            return None
        known = len(request.prompt_logprobs or ())
        return None if known == len(request.prompt) else max(0, known - 1)

    def packed(self) -> bytes:
        """Prompt and output as packed tokens."""
        return pack((*self.request.prompt, *self.output_ids))

    def completion(self) -> Completion:
        """The finished (or aborted) continuation."""
        return Completion(
            index=self.index,
            text="" if self.text is None else self.text.text,
            token_ids=tuple(self.output_ids),
            finish_reason=self.finish_reason or "abort",
            logprobs=tuple(self.logprobs) if self.request.params.logprobs is not None else None,
        )
