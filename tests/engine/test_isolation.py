"""A request that fails fails alone: those that share its steps get what they would have got without it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor

from radixcache import (
    EngineClosedError,
    EngineDeadError,
    EngineForkedError,
    EngineOverloadedError,
    OutOfBlocksError,
    PromptTooLongError,
    RequestFailedError,
    SamplingParams,
)
from radixcache.cache.lease import Lease
from radixcache.engine import request as request_module
from radixcache.engine.chunk import Chunk
from radixcache.engine.detokenize import TextStream
from radixcache.engine.planning import StepPlan
from radixcache.engine.runner import ModelRunner
from radixcache.engine.sampling import Sampler
from radixcache.engine.step import SequenceRows
from radixcache.tokens import unpack
from tests.engine.conftest import MakeEngine
from tests.engine.letters import Letters, lettered

BAD = 127  # a token that only the failing request has
PROMPTS = [list(range(3 + 20 * i, 40 + 20 * i)) for i in range(4)]
BAD_PROMPT = [*range(20, 50), BAD]
SEEDED = SamplingParams(max_tokens=8, ignore_eos=True, temperature=1.0, seed=7, logprobs=1)
SEVERAL = SamplingParams(max_tokens=8, ignore_eos=True, temperature=1.0, seed=7, n=2, prompt_logprobs=1)

Break = Callable[[pytest.MonkeyPatch], None]


def in_forward(patch: pytest.MonkeyPatch) -> None:
    forward = ModelRunner.forward

    def broken(self: ModelRunner, sequences: list[SequenceRows]) -> Tensor:
        if any(BAD in item.tokens for item in sequences):
            raise RuntimeError("out of luck")
        return forward(self, sequences)

    patch.setattr(ModelRunner, "forward", broken)


def of_bad(sequence: Any) -> bool:
    return BAD in unpack(sequence.request.prompt)


def in_sampling(patch: pytest.MonkeyPatch) -> None:
    draw = Sampler.draw

    def broken(self: Sampler) -> Any:
        if self.params.top_k == 5:
            raise RuntimeError("out of luck")
        return draw.fget(self)  # type: ignore[attr-defined]

    patch.setattr(Sampler, "draw", property(broken))


def in_commit(patch: pytest.MonkeyPatch) -> None:
    commit = Lease.commit

    def broken(self: Lease, num_tokens: int) -> None:
        if BAD.to_bytes(4, "little") in bytes(self.buffer):
            raise RuntimeError("out of luck")
        commit(self, num_tokens)

    patch.setattr(Lease, "commit", broken)


def in_preparing(patch: pytest.MonkeyPatch) -> None:
    add = StepPlan.add

    def broken(self: StepPlan, chunk: Chunk) -> None:
        if of_bad(chunk.sequence):
            raise RuntimeError("out of luck")
        add(self, chunk)

    patch.setattr(StepPlan, "add", broken)


def in_scheduling(patch: pytest.MonkeyPatch) -> None:
    from radixcache.cache.prefix_cache import PrefixCache

    acquire = PrefixCache.acquire

    def broken(self: PrefixCache, tokens: bytes, *args: Any, **options: Any) -> Lease:
        if BAD.to_bytes(4, "little") in tokens:
            raise RuntimeError("out of luck")
        return acquire(self, tokens, *args, **options)

    patch.setattr(PrefixCache, "acquire", broken)


@pytest.mark.parametrize("break_it", [in_forward, in_sampling, in_commit, in_preparing, in_scheduling])
def test_only_the_request_that_raises_fails(
    break_it: Break, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = [SEEDED, SEEDED, SEVERAL, SamplingParams(max_tokens=8, ignore_eos=True)]
    expected = [
        make_engine().submit(prompt, wanted).result(timeout=60)
        for prompt, wanted in zip(PROMPTS, params, strict=True)
    ]
    break_it(monkeypatch)
    engine = make_engine()
    handles = [engine.submit(prompt, wanted) for prompt, wanted in zip(PROMPTS, params, strict=True)]
    bad = engine.submit(
        BAD_PROMPT, SamplingParams(max_tokens=8, temperature=1.0, top_k=5), request_id="the-bad-one"
    )
    with pytest.raises(RequestFailedError, match=r"request the-bad-one failed: RuntimeError: out of luck"):
        bad.result(timeout=60)
    for handle, wanted in zip(handles, expected, strict=True):
        result = handle.result(timeout=60)
        assert [c.token_ids for c in result.completions] == [c.token_ids for c in wanted.completions]
        assert [c.logprobs is None or len(c.logprobs) for c in result.completions] == [
            c.logprobs is None or len(c.logprobs) for c in wanted.completions
        ]
        assert (result.prompt_logprobs is None) == (wanted.prompt_logprobs is None)
        if result.prompt_logprobs is not None:
            assert len(result.prompt_logprobs) == result.prompt_tokens


def test_a_step_too_large_to_compute_is_computed_in_parts(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [make_engine().submit(prompt, SEEDED).result(timeout=60).token_ids for prompt in PROMPTS]
    forward = ModelRunner.forward

    def small(self: ModelRunner, sequences: list[SequenceRows]) -> Tensor:
        if len(sequences) > 1:
            raise MemoryError("too large")
        return forward(self, sequences)

    monkeypatch.setattr(ModelRunner, "forward", small)
    results = make_engine().generate(PROMPTS, SEEDED)
    assert [result.token_ids for result in results] == expected


def test_text_that_cannot_be_made_fails_its_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from radixcache import Engine, EngineConfig

    push = TextStream.push

    def broken(self: TextStream, token: int) -> str:
        if self is bad_stream:
            raise UnicodeError("out of luck")
        return push(self, token)

    bad_stream: object = None
    params = SamplingParams(max_tokens=8, ignore_eos=True)
    with Engine(lettered(), EngineConfig(cache_tokens=8192)) as engine:
        expected = [result.text for result in engine.generate(PROMPTS, params)]
        monkeypatch.setattr(TextStream, "push", broken)
        handles = [engine.submit(prompt, params) for prompt in PROMPTS]
        bad_stream = engine._thread.ask(
            lambda: engine._loop._requests[handles[1]].sequences[0].text if not handles[1].done else None
        )
        with pytest.raises(RequestFailedError, match="out of luck"):
            handles[1].result(timeout=60)
        del handles[1], expected[1]
        assert [handle.result(timeout=60).text for handle in handles] == expected
        stats = engine.stats().cache
        assert stats.leases == 0
        assert stats.free_blocks + stats.evictable_blocks == stats.num_blocks


def test_what_cannot_be_prepared_fails_where_it_is_submitted() -> None:
    from radixcache import Engine

    class Broken(Letters):
        @property
        def backend_tokenizer(self) -> Any:
            raise RuntimeError("out of luck")

    with Engine(lettered(Broken())) as engine:
        with pytest.raises(RuntimeError, match="out of luck"):
            engine.submit(PROMPTS[0])
        assert engine.stats().waiting == 0


@pytest.mark.parametrize("namespace", [["tenant"], 5, None, {}])
def test_a_namespace_that_is_no_key_is_refused_by_name(namespace: Any, make_engine: MakeEngine) -> None:
    engine = make_engine()
    with pytest.raises(ValueError, match="namespace must be a str or bytes, got"):
        engine.submit(PROMPTS[0], namespace=namespace)
    assert engine.generate(PROMPTS[0], SamplingParams(max_tokens=1), namespace="tenant")


def test_a_schedule_that_cannot_be_made_costs_the_newest_request_only(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    params = SamplingParams(max_tokens=30, ignore_eos=True)
    expected = engine.generate(PROMPTS[:3], params)
    schedule = engine._loop._scheduler.schedule

    def broken() -> Any:
        if len(engine._loop._requests) > 3:
            raise RuntimeError("out of luck")
        return schedule()

    monkeypatch.setattr(engine._loop._scheduler, "schedule", broken)
    handles = [engine.submit(prompt, params) for prompt in PROMPTS]
    with pytest.raises(RequestFailedError, match="out of luck"):
        handles[3].result(timeout=60)
    results = [handle.result(timeout=60) for handle in handles[:3]]
    assert [result.token_ids for result in results] == [result.token_ids for result in expected]


def test_an_abort_that_fails_is_the_requests_own_failure(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    params = SamplingParams(max_tokens=1500, ignore_eos=True)
    beside, aborted = engine.submit(PROMPTS[0], params), engine.submit(PROMPTS[1], params)

    def broken(self: Any) -> None:
        raise RuntimeError("out of luck")

    with monkeypatch.context() as patch:
        patch.setattr(request_module.Request, "result", broken)
        aborted.abort()
        with pytest.raises(RequestFailedError, match="out of luck"):
            aborted.result(timeout=60)
    assert not beside.done
    beside.abort()
    assert beside.result(timeout=60).finish_reason == "abort"


def test_a_draw_is_the_same_until_it_is_noted() -> None:
    params = SamplingParams(temperature=1.0, seed=1)
    once, twice = Sampler(params, (), ()), Sampler(params, (), ())
    for token in (3, 1, 4):
        number = once.draw
        assert [twice.draw for _ in range(3)] == [number] * 3
        once.note(token)
        twice.note(token)
        assert once.draw != number


@pytest.mark.parametrize(
    "error",
    [
        OutOfBlocksError(3, 2),
        PromptTooLongError(30, 20, "the cache"),
        RequestFailedError("request-1", "RuntimeError: out of luck"),
        EngineDeadError("RuntimeError: out of luck"),
        EngineClosedError("the engine is closed"),
        EngineForkedError("forked"),
        EngineOverloadedError(5, 4),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_come_through_pickling_whole(error: Exception) -> None:
    error.add_note("request request-1")
    restored = pickle.loads(pickle.dumps(error))
    assert type(restored) is type(error)
    assert str(restored) == str(error)
    assert {k: v for k, v in vars(restored).items() if k != "__notes__"} == {
        k: v for k, v in vars(error).items() if k != "__notes__"
    }
