"""After any mix of finish, abort, error and preemption every block is accounted for."""

from __future__ import annotations

import random

import pytest
import torch

from radixcache import SamplingParams
from radixcache.engine.handle import RequestHandle
from tests import tiny_models
from tests.engine.conftest import MakeEngine

REQUESTS = 2000


def test_two_thousand_random_requests_leak_nothing(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(0)
    engine = make_engine(cache_tokens=512, max_batch_tokens=96, max_running=12, block_size=8)
    runner = engine._loop.executor.runner
    forward = runner.forward
    fate = random.Random(1)

    def flaky(sequences: object) -> torch.Tensor:
        if fate.random() < 0.01:
            raise RuntimeError("injected")
        return forward(sequences)  # type: ignore[arg-type]

    monkeypatch.setattr(runner, "forward", flaky)
    heads = [
        [rng.randrange(3, tiny_models.VOCABULARY) for _ in range(rng.randrange(4, 90))] for _ in range(6)
    ]
    ends = {"finished": 0, "aborted": 0, "failed": 0}
    live: list[RequestHandle] = []

    def settle(handle: RequestHandle) -> None:
        try:
            result = handle.result(timeout=120)
        except RuntimeError:
            ends["failed"] += 1
        else:
            ends["aborted" if result.finish_reason == "abort" else "finished"] += 1
            assert sum(result.misses.values()) in (0, result.prompt_tokens - result.cached_tokens)

    for _ in range(REQUESTS):
        prompt = [*rng.choice(heads), *(rng.randrange(3, 128) for _ in range(rng.randrange(1, 30)))]
        params = SamplingParams(
            max_tokens=rng.randrange(1, 24),
            n=rng.choice((1, 1, 1, 3)),
            temperature=rng.choice((0.0, 1.0)),
            seed=rng.randrange(100),
            prompt_logprobs=rng.choice((None, None, None, 1)),
        )
        live.append(engine.submit(prompt, params, namespace=rng.choice(("", "other"))))
        if rng.random() < 0.1:
            rng.choice(live).abort()
        if len(live) > 24:
            settle(live.pop(rng.randrange(len(live))))
    for handle in live:
        settle(handle)
    stats = engine.stats()
    assert sum(ends.values()) == REQUESTS
    assert min(ends.values()) > 0
    assert stats.preemptions > 0
    assert stats.running == stats.waiting == 0
