"""A request inside the engine, and the sequences it is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from time import perf_counter

import numpy as np

from radixcache.cache.eviction import Retention
from radixcache.cache.lease import Lease
from radixcache.engine.detokenize import TextStream
from radixcache.engine.handle import RequestHandle
from radixcache.engine.params import SamplingParams
from radixcache.engine.result import Completion, GenerationResult, RequestUsage, TokenLogprob
from radixcache.engine.sampling import stop_ids
from radixcache.engine.staging import IntArray
from radixcache.models import LoadedModel
from radixcache.tokens import TOKEN_BYTES, PackedTokens, pack, unpack

_TEXT_CONTEXT = 16  # tokens of the prompt that the text of an answer may depend on
_numbers = count()


@dataclass(slots=True, eq=False)
class Request:
    """What was asked for, and what is known of it so far.

    A request becomes `params.n` sequences: one computes the prompt, the others fork from it.

    Attributes:
        prompt: packed once, and read in this form everywhere.
        retain: how long to keep ranges of the prompt once it is computed; empty when that was said.
        priority: among waiting requests the highest runs first.
        timeout: seconds after `submitted_at` at which it ends, finished or not; None for never.
        lease: the first one, which says what was reused of the prompt.
        number: unlike any other request's of this process.
    """

    handle: RequestHandle
    prompt: PackedTokens
    params: SamplingParams
    namespace: str | bytes = ""
    retain: tuple[Retention, ...] = ()
    priority: int = 0
    timeout: float | None = None
    submitted_at: float = field(default_factory=perf_counter)
    admitted_at: float | None = None
    first_token_at: float | None = None
    cached_tokens: int = 0
    misses: dict[str, int] = field(default_factory=dict)
    diverged_at: int | None = None
    lease: Lease | None = None
    prompt_logprobs: list[TokenLogprob | None] | None = None
    sequences: list[Sequence] = field(default_factory=list)
    number: int = field(default_factory=_numbers.__next__)

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return len(self.prompt) // TOKEN_BYTES

    @property
    def deadline(self) -> float | None:
        """`perf_counter` at which it ends, finished or not; None for never."""
        return None if self.timeout is None else self.submitted_at + self.timeout

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
        text = None
        if model.tokenizer is not None:
            context = unpack(self.prompt[-_TEXT_CONTEXT * TOKEN_BYTES :])
            text = TextStream(model.tokenizer, context, stop=self.params.stop)
        index = len(self.sequences)
        sequence = Sequence(self, index, stop_ids(self.params, model.eos_token_ids), text)
        self.sequences.append(sequence)
        return sequence

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Logprobs of the prompt were asked for, and some are missing."""
        return self.params.prompt_logprobs is not None and (
            self.prompt_logprobs is None or len(self.prompt_logprobs) < self.num_prompt_tokens
        )

    @property
    def usage(self) -> RequestUsage:
        """Tokens used so far."""
        return RequestUsage(
            prompt_tokens=self.num_prompt_tokens,
            cached_tokens=self.cached_tokens,
            completion_tokens=sum(len(sequence.output_ids) for sequence in self.sequences),
            misses=dict(self.misses),
            diverged_at=self.diverged_at,
        )

    def note_prompt_logprobs(self, logprobs: list[TokenLogprob]) -> None:
        """Take the next missing logprobs of the prompt; its first token has none."""
        if self.prompt_logprobs is None:
            self.prompt_logprobs = [None]
        self.prompt_logprobs.extend(logprobs)

    def result(self) -> GenerationResult:
        """What the caller gets; call when finished or aborted."""
        now, usage = perf_counter(), self.usage
        first = self.first_token_at if self.first_token_at is not None else now
        started = self.admitted_at if self.admitted_at is not None else now
        return GenerationResult(
            request_id=self.handle.request_id,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
            ttft=first - self.submitted_at,
            latency=now - self.submitted_at,
            queue_time=started - self.submitted_at,
            misses=usage.misses,
            diverged_at=usage.diverged_at,
            completions=tuple(sequence.completion() for sequence in self.sequences),
            prompt_logprobs=None if self.prompt_logprobs is None else tuple(self.prompt_logprobs),
        )


@dataclass(slots=True, eq=False)
class Sequence:
    """One token sequence: the prompt and what has been generated after it.

    Attributes:
        stop_ids: tokens that end it.
        text: makes text of its output; None for a model without a tokenizer.
        lease: its blocks while it runs; None while it waits (new or preempted).
        decoding: all that its lease holds is computed but for the last token, and drafted ones after it.
        key: names it to the executor: number of the request, index of the completion.
        rank: place in the queue while it waits: priority, negated, and arrival.
        passes: how often a later sequence was admitted before it.
    """

    request: Request
    index: int
    stop_ids: frozenset[int]
    text: TextStream | None
    output_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: str | None = None
    lease: Lease | None = None
    decoding: bool = False
    rank: tuple[int, int] = (0, 0)
    passes: int = 0
    key: tuple[int, int] = field(init=False)
    _packed: PackedTokens | None = None
    _table: tuple[bytes, IntArray] = field(default=(b"", np.empty(0, np.int32)))

    def __post_init__(self) -> None:
        self.key = self.request.number, self.index

    @property
    def preempted(self) -> bool:
        """It, or the sequence it forks from, ran before: it is resumed, and not counted again."""
        return bool(self.output_ids) or self.request.admitted_at is not None

    @property
    def num_tokens(self) -> int:
        """Tokens of prompt and output."""
        return self.request.num_prompt_tokens + len(self.output_ids)

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
        return None if known == request.num_prompt_tokens else max(0, known - 1)

    def packed(self) -> PackedTokens:
        """Prompt and output, for a sequence that waits; the prompt itself while there is no output."""
        if not self.output_ids:
            return self.request.prompt
        if self._packed is None or len(self._packed) != self.num_tokens * TOKEN_BYTES:
            self._packed = PackedTokens(self.request.prompt + pack(self.output_ids))
        return self._packed

    def table(self) -> IntArray:
        """A copy of its lease's block table, int32 `[blocks]`: the last one while that has not changed."""
        assert self.lease is not None
        packed, table = self._table
        if packed != self.lease.packed_table:
            packed = bytes(self.lease.packed_table)
            table = np.frombuffer(packed, np.int32)
            self._table = packed, table
        return table

    def completion(self) -> Completion:
        """The finished (or aborted) continuation."""
        return Completion(
            index=self.index,
            text="" if self.text is None else self.text.text,
            token_ids=tuple(self.output_ids),
            finish_reason=self.finish_reason or "abort",
            logprobs=tuple(self.logprobs) if self.request.params.logprobs is not None else None,
        )
