"""An engine without a model: answers follow from the prompt, prefixes are remembered token by token."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from radixcache.engine.params import SamplingParams
from radixcache.engine.result import Completion, TokenLogprob
from radixcache.errors import PromptTooLongError
from radixcache.replay.prepare import ReplayRequest
from radixcache.replay.target import ReplayTarget
from tests.naive import lcp

LONGEST = 100
FAILING_TOKEN = 666


@dataclass(frozen=True)
class FakeResult:
    prompt_tokens: int
    cached_tokens: int
    misses: dict[str, int]
    diverged_at: int | None
    ttft: float
    queue_time: float
    latency: float
    completions: tuple[Completion, ...]

    @property
    def token_ids(self) -> tuple[int, ...]:
        return self.completions[0].token_ids

    @property
    def finish_reason(self) -> str:
        return self.completions[0].finish_reason


@dataclass(frozen=True)
class FakeStats:
    prefill_tokens: int
    decode_tokens: int
    step_s: float = 2.0
    control_s: float = 0.01
    block_waste: float = 0.03
    preemptions: int = 0
    batch_invariant: bool = True
    variance: str = ""


class FakeHandle:
    """Computes when its result is waited for, after `engine.delay_s`."""

    def __init__(self, engine: FakeEngine, result: FakeResult, tokens: Sequence[int]) -> None:
        self._engine = engine
        self._result = result
        self._tokens = tokens
        self.aborted = threading.Event()

    def result(self) -> FakeResult:
        self.aborted.wait(self._engine.delay_s)
        self._engine.ended()
        if FAILING_TOKEN in self._tokens:
            raise RuntimeError("the device is gone")
        return self._result

    def abort(self) -> None:
        self.aborted.set()


@dataclass
class FakeEngine:
    """Remembers per namespace every prompt it was given.

    With `drift` the last token of an answer is the next higher one where something was cached. Asked for
    logprobs after a prompt and a part of its answer, it gives the token that follows without drift 0, the
    next higher one `-margin`, and the least likely one -10; or fails, if `mute`.
    """

    cache: bool
    delay_s: float = 0.0
    drift: bool = False
    margin: float = 0.0
    mute: bool = False
    answers: dict[tuple[int, ...], int] = field(default_factory=dict)
    variance: str = ""
    closed: bool = False
    submitted: list[tuple[float, tuple[int, ...], str, SamplingParams]] = field(default_factory=list)
    handles: list[FakeHandle] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    prefill: int = 0
    decode: int = 0
    seen: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def submit(self, prompt: Sequence[int], params: SamplingParams, *, namespace: str = "") -> FakeHandle:
        tokens = tuple(prompt)
        if len(tokens) + params.max_tokens > LONGEST:
            raise PromptTooLongError(len(tokens) + params.max_tokens, LONGEST, "the model's context")
        with self.lock:
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            self.submitted.append((time.perf_counter(), tokens, namespace, params))
            known = self.seen.setdefault(namespace, [])
            shared = max((lcp(tokens, other) for other in known), default=0)
            cached = min(shared, len(tokens) - 1) if self.cache else 0
            known.append(tokens)
            missed = len(tokens) - cached
            self.prefill += missed
            self.decode += params.max_tokens
        reason = "cache_off" if not self.cache else "diverged" if shared else "never_seen"
        output = [(sum(tokens) + i) % 1000 for i in range(params.max_tokens)]
        for i, token in enumerate(output):
            self.answers.setdefault((*tokens, *output[:i]), token)
        if params.logprobs is not None:
            output = [self.answers[tokens]]
        if self.drift and self.cache and cached:
            output[-1] += 1
        completion = Completion(0, "", tuple(output), "length", self.logprobs(output, params))
        result = FakeResult(
            prompt_tokens=len(tokens),
            cached_tokens=cached,
            misses={reason: missed, "evicted": 0},
            diverged_at=shared if reason == "diverged" else None,
            ttft=missed / 1000,
            queue_time=0.0,
            latency=missed / 1000 + 0.001 * params.max_tokens,
            completions=(completion,),
        )
        handle = FakeHandle(self, result, tokens)
        self.handles.append(handle)
        return handle

    def logprobs(self, output: Sequence[int], params: SamplingParams) -> tuple[TokenLogprob, ...] | None:
        if params.logprobs is None:
            return None
        if self.mute:
            raise ValueError("no logprobs here")
        tops = [((token, 0.0), (token + 1, -self.margin), (5000, -10.0)) for token in output]
        return tuple(TokenLogprob(top[0][0], 0.0, top) for top in tops)

    def ended(self) -> None:
        with self.lock:
            self.in_flight -= 1

    def stats(self) -> FakeStats:
        return FakeStats(self.prefill, self.decode, batch_invariant=not self.variance, variance=self.variance)

    def close(self) -> None:
        self.closed = True


class FakeTokenizer:
    """One token a character; a chat template of one line a message, which knows no tools."""

    chat_template = "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}\n{% endfor %}"

    def encode(self, text: str, **options: Any) -> list[int]:
        return [ord(character) for character in text]


@dataclass
class Bench:
    """A target that keeps the engines it made: the warm-up's, one a run, and one that is asked again."""

    engines: list[FakeEngine] = field(default_factory=list)
    delay_s: float = 0.0
    drift: bool = False
    margin: float = 0.0
    mute: bool = False
    variance: str = ""
    dtype: str = "float32"
    answers: dict[tuple[int, ...], int] = field(default_factory=dict)

    def make_engine(self, cache: bool) -> FakeEngine:
        assert all(engine.closed for engine in self.engines), "two engines at once"
        engine = FakeEngine(
            cache,
            delay_s=self.delay_s,
            drift=self.drift,
            margin=self.margin,
            mute=self.mute,
            answers=self.answers,
            variance=self.variance,
        )
        self.engines.append(engine)
        return self.engines[-1]

    @property
    def target(self) -> ReplayTarget:
        return ReplayTarget("fake", self.dtype, "cpu", 16, None, FakeTokenizer(), self.make_engine)


def request(
    index: int,
    tokens: Sequence[int],
    *,
    max_tokens: int = 2,
    namespace: str = "",
    timestamp: float | None = None,
    error: str | None = None,
    session: str | None = None,
) -> ReplayRequest:
    return ReplayRequest(
        index, "log.jsonl", index + 1, session, namespace, array("i", tokens), max_tokens, timestamp, error
    )
