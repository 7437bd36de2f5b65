"""Where the device computes while the host goes on, text comes a little later and is the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor

from radixcache import Engine, EngineConfig, SamplingParams
from radixcache.engine.runner import ModelRunner
from tests import tiny_models

PROMPTS = [list(range(3, 40)), list(range(20, 60)), list(range(3, 70))]


class Letters:
    """A tokenizer whose every token is one letter."""

    def decode(self, ids: list[int], **options: Any) -> str:
        return "".join(chr(0x4E00 + token) for token in ids)


@pytest.fixture
def make() -> Iterator[Callable[[bool], Engine]]:
    engines: list[Engine] = []

    def make(asynchronous: bool) -> Engine:
        model = replace(tiny_models.tiny("llama"), tokenizer=Letters())
        engine = Engine(model, EngineConfig(cache_tokens=8192))
        engine._loop.executor.runner.asynchronous = asynchronous
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        assert engine.stats().cache.leases == 0
        engine.close()


def test_streams_and_results_are_the_same(make: Callable[[bool], Engine]) -> None:
    params = SamplingParams(max_tokens=12, ignore_eos=True)
    expected = [result.text for result in make(False).generate(PROMPTS, params)]
    engine = make(True)
    handles = [engine.submit(prompt, params) for prompt in PROMPTS]
    assert ["".join(handle) for handle in handles] == expected
    assert [handle.result().text for handle in handles] == expected
    assert all(len(text) == 12 for text in expected)


def test_a_stop_string_stops_at_the_same_token(make: Callable[[bool], Engine]) -> None:
    free = make(False).generate(PROMPTS[0], SamplingParams(max_tokens=12, ignore_eos=True))[0]
    params = SamplingParams(max_tokens=12, ignore_eos=True, stop=(free.text[5:7],))
    expected = make(False).generate(PROMPTS[0], params)[0]
    assert expected.finish_reason == "stop"
    # Beside others that have none, whose text is told late.
    engine = make(True)
    others = [engine.submit(p, SamplingParams(max_tokens=12, ignore_eos=True)) for p in PROMPTS[1:]]
    result = engine.generate(PROMPTS[0], params)[0]
    assert (result.text, result.token_ids) == (expected.text, expected.token_ids)
    assert all(len(other.result().text) == 12 for other in others)


def test_an_aborted_request_has_the_text_of_all_its_tokens(make: Callable[[bool], Engine]) -> None:
    engine = make(True)
    handle = engine.submit(PROMPTS[0], SamplingParams(max_tokens=1500, ignore_eos=True))
    while engine.stats().decode_tokens < 5:
        time.sleep(0.001)
    handle.abort()
    result = handle.result(timeout=30)
    assert len(result.text) == len(result.token_ids) >= 5
    assert "".join(handle) == result.text


def test_text_is_made_while_the_next_step_is_computed(
    make: Callable[[bool], Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make(True)
    told_before_step: list[int] = []
    forward = ModelRunner.forward
    handles: list[Any] = []

    def noting(self: ModelRunner, sequences: Any) -> Tensor:
        told_before_step.append(len(handles[0]._deltas) if handles else 0)
        return forward(self, sequences)

    monkeypatch.setattr(ModelRunner, "forward", noting)
    # Only once the handle is known may the first step begin.
    engine._thread.ask(
        lambda: handles.append(engine.submit(PROMPTS[0], SamplingParams(max_tokens=6, ignore_eos=True)))
    )
    assert len(handles[0].result().text) == 6
    assert told_before_step == [0, 0, 1, 2, 3, 4]


def test_a_request_that_fails_leaves_no_text_to_tell(
    make: Callable[[bool], Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make(True)
    forward, calls = ModelRunner.forward, 0

    def breaking(self: ModelRunner, sequences: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise RuntimeError("out of luck")
        return forward(self, sequences)

    monkeypatch.setattr(ModelRunner, "forward", breaking)
    handle = engine.submit(PROMPTS[0], SamplingParams(max_tokens=9, ignore_eos=True))
    with pytest.raises(RuntimeError, match="out of luck"):
        handle.result(timeout=30)
    assert not len(engine._loop._outbox)
    text = engine.generate(PROMPTS[0], SamplingParams(max_tokens=9, ignore_eos=True))[0].text
    assert len(text) == 9
