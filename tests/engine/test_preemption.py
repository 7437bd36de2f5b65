"""When blocks run out: nothing that a result says depends on it, and places do not stay empty."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from radixcache import Engine, EngineConfig, GenerationResult, SamplingParams
from radixcache.engine.result import TokenLogprob
from tests import tiny_models
from tests.engine.conftest import MakeEngine

LONG = SamplingParams(max_tokens=60, ignore_eos=True)


def random_ids(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(3, tiny_models.VOCABULARY) for _ in range(count)]


def speaking() -> Any:
    """The tiny model with a word for each token."""
    words = WordLevel({f"w{token}": token for token in range(tiny_models.VOCABULARY)}, unk_token="w0")
    return replace(
        tiny_models.tiny("llama"), tokenizer=PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words))
    )


KINDS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "logprobs": {"logprobs": 3},
    "prompt_logprobs": {"prompt_logprobs": 2},
    "prompt_logprobs of several": {
        "prompt_logprobs": 1,
        "n": 3,
        "temperature": 1.0,
        "seed": 4,
        "logprobs": 1,
    },
    "seed": {"temperature": 1.0, "seed": 1},
    "several": {"temperature": 0.8, "seed": 2, "n": 4},
    "filters": {"temperature": 1.2, "seed": 3, "top_k": 20, "top_p": 0.9, "min_p": 0.01},
    "penalties": {"repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": 0.4},
    "stop strings": {"temperature": 1.0, "seed": 5, "stop": ("w7", "w33 ", "w50")},
    "stop tokens": {"temperature": 1.0, "seed": 6, "stop_token_ids": tuple(range(40, 60)), "min_tokens": 15},
    "end token": {"temperature": 1.5, "seed": 7, "n": 2, "ignore_eos": False},
}


def same_logprobs(
    got: tuple[TokenLogprob | None, ...] | None, expected: tuple[TokenLogprob | None, ...] | None
) -> bool:
    if got is None or expected is None:
        return got is expected
    return len(got) == len(expected) and all(
        a is b if a is None or b is None else a.token_id == b.token_id and abs(a.logprob - b.logprob) < 1e-4
        for a, b in zip(got, expected, strict=True)
    )


def assert_same(got: GenerationResult, expected: GenerationResult) -> None:
    for field in ("prompt_tokens", "cached_tokens", "completion_tokens", "misses", "diverged_at"):
        assert getattr(got, field) == getattr(expected, field), field
    assert same_logprobs(got.prompt_logprobs, expected.prompt_logprobs)
    assert len(got.completions) == len(expected.completions)
    for a, b in zip(got.completions, expected.completions, strict=True):
        assert (a.index, a.token_ids, a.text, a.finish_reason) == (
            b.index,
            b.token_ids,
            b.text,
            b.finish_reason,
        )
        assert same_logprobs(a.logprobs, b.logprobs)
    assert 0 <= got.queue_time <= got.ttft <= got.latency


@pytest.mark.parametrize("cache", [True, False])
def test_no_field_of_a_result_depends_on_preemption(cache: bool) -> None:
    rng = random.Random(1)
    requests = [
        (
            random_ids(rng, rng.randrange(20, 120)),
            SamplingParams(**({"max_tokens": 40, "ignore_eos": True} | kind)),
        )
        for kind in KINDS.values()
    ]
    model = speaking()
    with Engine(model, EngineConfig(cache_tokens=65536, cache=cache)) as roomy:
        expected = [roomy.submit(prompt, params).result(120) for prompt, params in requests]
        assert roomy.stats().preemptions == 0
    for seed in range(2):
        order = list(range(len(requests)))
        random.Random(seed).shuffle(order)
        config = EngineConfig(cache_tokens=320, block_size=8, max_batch_tokens=24, max_running=6, cache=cache)
        with Engine(model, config) as tight:
            handles = {index: tight.submit(*requests[index]) for index in order}
            for index, handle in handles.items():
                assert_same(handle.result(120), expected[index])
            stats = tight.stats()
            assert stats.preemptions > 3
            assert stats.cache.leases == 0


def test_logprobs_of_a_prompt_are_complete_though_its_prefill_was_interrupted(
    make_engine: MakeEngine,
) -> None:
    rng = random.Random(3)
    prompt = random_ids(rng, 96)
    params = SamplingParams(max_tokens=1, prompt_logprobs=2, ignore_eos=True)
    (alone,) = make_engine().generate(prompt, params)
    tight = make_engine(cache_tokens=352, max_batch_tokens=5)
    others = [tight.submit(prompt, LONG), *(tight.submit(random_ids(rng, 16), LONG) for _ in range(3))]
    while (stats := tight.stats()).running < 4 or stats.decode_tokens < 8:
        time.sleep(0.001)
    result = tight.submit(prompt, params).result(60)
    for other in others:
        other.result(60)
    assert tight.stats().preemptions > 0
    assert same_logprobs(result.prompt_logprobs, alone.prompt_logprobs)


def test_after_a_preemption_a_request_that_there_is_room_for_does_not_wait(make_engine: MakeEngine) -> None:
    rng = random.Random(0)
    engine = make_engine(cache_tokens=2048)
    answering = engine.submit(random_ids(rng, 40), SamplingParams(max_tokens=1900, ignore_eos=True))
    large = engine.submit(random_ids(rng, 1500), SamplingParams(max_tokens=500, ignore_eos=True))
    while (before := engine.stats()).preemptions == 0:
        time.sleep(0.001)
    assert before.cache.free_blocks + before.cache.evictable_blocks > 50
    for _ in range(40):  # more than may overtake the large one if they were not brief
        engine.generate([5, 6, 7], SamplingParams(max_tokens=1, ignore_eos=True))
    assert engine.stats().steps - before.steps < 200
    assert not answering.done
    assert not large.done
    answering.abort()
    large.result(60)


def test_preempted_requests_do_not_take_each_others_blocks_in_turn(make_engine: MakeEngine) -> None:
    rng = random.Random(5)
    engine = make_engine(cache_tokens=1024, block_size=8)
    params = SamplingParams(max_tokens=400, ignore_eos=True)
    handles = [engine.submit(random_ids(rng, 100), params) for _ in range(6)]
    for handle in handles:
        assert len(handle.result(120).token_ids) == 400
    stats = engine.stats()
    assert stats.preemptions < 6 * 400 / 32
    assert stats.prefill_tokens < 6 * 100 + stats.decode_tokens


@pytest.mark.parametrize("cache", [True, False])
def test_no_more_sequences_run_than_may_however_many_completions_are_asked_for(
    cache: bool, make_engine: MakeEngine
) -> None:
    params = SamplingParams(max_tokens=5, n=23, temperature=1.0, seed=3, ignore_eos=True, logprobs=1)
    prompt = list(range(3, 40))
    (expected,) = make_engine(max_running=64).generate(prompt, params)
    engine = make_engine(max_running=4, cache=cache)
    scheduler = engine._loop._scheduler
    running: list[int] = []
    plan = scheduler.schedule

    def watched() -> Any:
        chunks = plan()
        running.append(len(scheduler.running))
        return chunks

    scheduler.schedule = watched  # type: ignore[method-assign]
    many = [engine.submit(prompt, params), engine.submit(prompt[::-1], params)]
    small = engine.submit([5, 6, 7], SamplingParams(max_tokens=1))
    small.result(60)
    assert not many[0].done
    for handle in many:
        result = handle.result(60)
        assert [completion.index for completion in result.completions] == list(range(23))
        assert result.misses == {("never_seen" if cache else "cache_off"): len(prompt)}
    assert max(running) == 4
    got = many[0].result()
    for a, b in zip(got.completions, expected.completions, strict=True):
        assert a.token_ids == b.token_ids
        assert same_logprobs(a.logprobs, b.logprobs)


def test_completions_that_still_wait_are_aborted_with_their_request(make_engine: MakeEngine) -> None:
    engine = make_engine(max_running=2)
    params = SamplingParams(max_tokens=200, n=9, temperature=1.0, ignore_eos=True)
    handle = engine.submit(list(range(3, 40)), params)
    while engine.stats().decode_tokens < 10:
        time.sleep(0.001)
    handle.abort()
    assert handle.result(30).finish_reason == "abort"
    stats = engine.stats()
    assert stats.running == stats.waiting == 0
