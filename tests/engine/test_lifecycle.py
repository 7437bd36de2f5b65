"""Requests that end early, do not fit, fail or are preempted; and the async and chat forms."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from array import array
from typing import Any

import numpy as np
import pytest
import torch

from radixcache import Engine, PromptTooLongError, RadixCacheError, SamplingParams
from radixcache.tokens import pack
from tests import tiny_models
from tests.engine.conftest import MakeEngine

LONG = SamplingParams(max_tokens=1500, ignore_eos=True)


def test_a_prompt_longer_than_the_context_names_both_numbers(make_engine: MakeEngine) -> None:
    with pytest.raises(PromptTooLongError, match=r"2058 tokens .* the model's context holds 2048"):
        make_engine().submit(list(range(3, 13)), SamplingParams(max_tokens=2048))


def test_a_prompt_longer_than_the_cache_names_both_numbers(make_engine: MakeEngine) -> None:
    with pytest.raises(PromptTooLongError, match=r"110 tokens .* the cache holds 96"):
        make_engine(cache_tokens=100).submit(list(range(3, 103)), SamplingParams(max_tokens=10))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [([], "empty"), ([5, 128], "token 128 at position 1"), ([5, -1], "-1"), ("text", "no tokenizer")],
)
def test_an_impossible_prompt_is_refused(prompt: object, message: str, make_engine: MakeEngine) -> None:
    with pytest.raises((ValueError, RadixCacheError), match=message):
        make_engine().submit(prompt)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "prompt",
    [
        np.array([5, 6, 7]),
        torch.tensor([5, 6, 7]),
        [np.int64(5), np.int64(6), np.int64(7)],
        [torch.tensor(5), torch.tensor(6), torch.tensor(7)],
        array("i", [5, 6, 7]),
        range(5, 8),
        (5, 6, 7),
        pack([5, 6, 7]),
        bytes(pack([5, 6, 7])),
    ],
    ids=lambda prompt: type(prompt).__name__,
)
def test_a_row_of_token_ids_is_one_prompt_whatever_holds_it(prompt: Any, make_engine: MakeEngine) -> None:
    engine = make_engine()
    params = SamplingParams(max_tokens=2, ignore_eos=True)
    expected = engine.generate([5, 6, 7], params)[0].token_ids
    assert engine.submit(prompt, params).result(timeout=30).token_ids == expected
    assert [result.token_ids for result in engine.generate(prompt, params)] == [expected]
    assert [result.token_ids for result in engine.generate([prompt, prompt], params)] == [expected] * 2


def test_rows_of_a_matrix_are_prompts_and_nothing_is_none(make_engine: MakeEngine) -> None:
    engine = make_engine()
    params = SamplingParams(max_tokens=2, ignore_eos=True)
    expected = [result.token_ids for result in engine.generate([[5, 6], [7, 8]], params)]
    for rows in (np.array([[5, 6], [7, 8]]), torch.tensor([[5, 6], [7, 8]])):
        assert [result.token_ids for result in engine.generate(rows, params)] == expected  # type: ignore[arg-type]
    assert engine.generate([], params) == []
    with pytest.raises(ValueError, match="the prompt is empty"):
        engine.generate([[]], params)


@pytest.mark.parametrize("prompts", [None, 5, 1.5])
def test_what_is_no_prompt_is_named(prompts: Any, make_engine: MakeEngine) -> None:
    with pytest.raises(ValueError, match=f"prompts must be text, token ids, .*got {prompts}"):
        make_engine().generate(prompts)


def test_a_callback_that_cannot_be_called_is_refused(make_engine: MakeEngine) -> None:
    handle = make_engine().submit([5, 6, 7], SamplingParams(max_tokens=2, ignore_eos=True))
    for _ in range(2):  # while it runs, and once it has ended
        with pytest.raises(ValueError, match="call must be callable, got 5"):
            handle.when_done(5)  # type: ignore[arg-type]
        handle.result(timeout=60)


def test_an_aborted_request_keeps_what_it_said_and_frees_its_blocks(make_engine: MakeEngine) -> None:
    engine = make_engine()
    handle = engine.submit(list(range(3, 50)), LONG)
    while engine.stats().decode_tokens < 5:
        time.sleep(0.005)
    handle.abort()
    result = handle.result(timeout=30)
    assert result.finish_reason == "abort"
    assert 5 <= len(result.token_ids) < 1500
    assert engine.stats().running == 0


def test_a_waiting_request_can_be_aborted(make_engine: MakeEngine) -> None:
    engine = make_engine(max_running=1)
    running = engine.submit(list(range(3, 50)), LONG)
    waiting = engine.submit(list(range(50, 90)), LONG)
    waiting.abort()
    assert waiting.result(timeout=30).token_ids == ()
    running.abort()
    running.result(timeout=30)


def test_closing_aborts_what_runs() -> None:
    engine = Engine(tiny_models.tiny("llama"))
    handle = engine.submit(list(range(3, 50)), LONG)
    engine.close()
    assert handle.result(timeout=1).finish_reason == "abort"
    with pytest.raises(RadixCacheError, match="closed"):
        engine.submit([3, 4])


def test_an_error_in_a_step_fails_its_requests_and_the_engine_goes_on(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    runner = engine._loop.executor.runner
    forward = type(runner).forward

    def broken(sequences: object) -> torch.Tensor:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(runner, "forward", broken)
    with pytest.raises(RuntimeError, match="out of luck"):
        engine.submit(list(range(3, 50))).result(timeout=30)
    monkeypatch.setattr(runner, "forward", forward.__get__(runner))
    assert engine.generate(list(range(3, 50)), SamplingParams(max_tokens=2))[0].cached_tokens == 0


def test_preempted_requests_resume_and_give_the_same_tokens(make_engine: MakeEngine) -> None:
    rng = random.Random(2)
    batch = [[rng.randrange(3, 128) for _ in range(40)] for _ in range(6)]
    params = SamplingParams(max_tokens=60, ignore_eos=True)
    roomy = make_engine().generate(batch, params)
    tight = make_engine(cache_tokens=256)
    results = tight.generate(batch, params)
    assert tight.stats().preemptions > 0
    assert [r.token_ids for r in results] == [r.token_ids for r in roomy]
    assert tight.stats().cache.requests == len(batch)


def test_no_request_is_overtaken_for_ever(make_engine: MakeEngine) -> None:
    engine = make_engine(max_running=1, max_passes=3)
    favoured = list(range(3, 67))
    engine.generate(favoured, SamplingParams(max_tokens=2))
    done: list[str] = []
    blocker = engine.submit(list(range(100, 120)), SamplingParams(max_tokens=40, ignore_eos=True))
    stranger = engine.submit(list(range(120, 80, -1)), SamplingParams(max_tokens=2), request_id="stranger")
    popular = [
        engine.submit([*favoured, 3 + i], SamplingParams(max_tokens=2), request_id=f"popular-{i}")
        for i in range(8)
    ]
    threads = [
        threading.Thread(target=lambda h=handle: (h.result(), done.append(h.request_id)))
        for handle in (stranger, *popular)
    ]
    for thread in threads:
        thread.start()
    blocker.result(timeout=60)
    for thread in threads:
        thread.join(timeout=60)
    assert done.index("stranger") <= 4


def test_min_tokens_keeps_a_request_from_stopping(make_engine: MakeEngine) -> None:
    engine = make_engine()
    prompt = list(range(3, 40))
    free = engine.generate(prompt, SamplingParams(max_tokens=30))[0]
    stop = free.token_ids[3]
    stopped = engine.generate(prompt, SamplingParams(max_tokens=30, stop_token_ids=(stop,)))[0]
    assert stopped.finish_reason == "stop"
    assert len(stopped.token_ids) <= 4
    held = engine.generate(prompt, SamplingParams(max_tokens=30, stop_token_ids=(stop,), min_tokens=30))[0]
    assert len(held.token_ids) == 30
    assert stop not in held.token_ids


def test_async_forms_give_what_the_others_give(make_engine: MakeEngine) -> None:
    engine = make_engine()
    batch = [list(range(3 + i, 40 + i)) for i in range(4)]
    params = SamplingParams(max_tokens=6)
    expected = [result.token_ids for result in engine.generate(batch, params)]

    async def run() -> list[tuple[int, ...]]:
        return [result.token_ids for result in await engine.agenerate(batch, params)]

    assert asyncio.run(run()) == expected


def test_cancelling_an_async_request_aborts_it(make_engine: MakeEngine) -> None:
    engine = make_engine()

    async def run() -> None:
        task = asyncio.create_task(engine.agenerate(list(range(3, 40)), LONG))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    deadline = time.monotonic() + 20
    while engine.stats().running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert engine.stats().running == 0


def test_resetting_is_refused_while_requests_run(make_engine: MakeEngine) -> None:
    engine = make_engine()
    prompt = list(range(3, 60))
    engine.generate(prompt, SamplingParams(max_tokens=2))
    engine.reset_cache()
    assert engine.generate(prompt, SamplingParams(max_tokens=2))[0].cached_tokens == 0
    handle = engine.submit(prompt, LONG)
    while engine.stats().running == 0:
        time.sleep(0.005)
    with pytest.raises(RadixCacheError):
        engine.reset_cache()
    handle.abort()
    handle.result(timeout=30)
