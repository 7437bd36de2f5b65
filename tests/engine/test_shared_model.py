"""A model that an engine was made of stays its owner's, and serves as many engines as one likes."""

from __future__ import annotations

import copy
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from radixcache import EngineConfig, InvarianceError, InvarianceWarning, SamplingParams
from radixcache.engine import Engine
from radixcache.engine.cpu.products import Product, settle_products
from radixcache.engine.runner import ModelRunner
from radixcache.engine.step import SequenceRows
from tests import tiny_models
from tests.engine.company import make_runner
from tests.engine.conftest import MakeEngine

GREEDY = SamplingParams(max_tokens=12, ignore_eos=True)


def prompts(count: int) -> list[list[int]]:
    rng = random.Random(0)
    return [[rng.randrange(3, 128) for _ in range(rng.randrange(5, 60))] for _ in range(count)]


def test_engines_over_one_model_do_not_disturb_each_other(make_engine: MakeEngine) -> None:
    asked = prompts(24)
    expected = [result.token_ids for result in make_engine().generate(asked, GREEDY)]
    engines = [make_engine(), make_engine(), make_engine(cache=False)]
    with ThreadPoolExecutor(len(engines)) as pool:
        found = list(pool.map(lambda engine: engine.generate(asked, GREEDY), engines))
    assert [[result.token_ids for result in results] for results in found] == [expected] * len(engines)


def test_the_model_stays_as_it_was_and_what_happens_to_it_does_not_reach_the_engine(
    make_engine: MakeEngine,
) -> None:
    model = tiny_models.tiny("llama").model
    before = {name: type(module) for name, module in model.named_modules()}
    ids = torch.tensor([prompts(1)[0]])
    with torch.inference_mode():
        logits = model(ids).logits
        engine = make_engine()
        (first,) = engine.generate(prompts(1), GREEDY)
        assert torch.equal(model(ids).logits, logits)
    assert {name: type(module) for name, module in model.named_modules()} == before
    model.set_attn_implementation("sdpa")
    try:
        engine.reset_cache()
        assert engine.generate(prompts(1), GREEDY)[0].token_ids == first.token_ids
    finally:
        model.set_attn_implementation("eager")


def test_what_is_done_to_the_weights_afterwards_does_not_reach_the_engine() -> None:
    model = copy.copy(tiny_models.tiny("llama"))
    object.__setattr__(model, "model", copy.deepcopy(model.model))
    with Engine(model, EngineConfig(cache_tokens=1024)) as engine:
        (before,) = engine.generate(prompts(1), GREEDY)
        with torch.no_grad():
            for weight in model.model.parameters():
                weight.mul_(-2)
        model.model.to(torch.bfloat16)
        engine.reset_cache()
        assert engine.generate(prompts(1), GREEDY)[0].token_ids == before.token_ids


@pytest.mark.parametrize("default", [torch.bfloat16, torch.float64])
def test_a_default_dtype_that_is_set_meanwhile_changes_no_bit(
    default: torch.dtype, make_engine: MakeEngine
) -> None:
    prompt = [3 + place for place in range(64)]
    params = SamplingParams(max_tokens=8, ignore_eos=True, logprobs=1)
    (expected,) = make_engine(cache=False).generate([prompt], params)
    engine = make_engine()
    engine.generate([prompt[:48]], params)
    torch.set_default_dtype(default)
    try:
        (hit,) = engine.generate([prompt], params)
    finally:
        torch.set_default_dtype(torch.float32)
    assert hit.cached_tokens >= 48
    assert hit.completions == expected.completions


def test_an_engine_can_be_made_under_another_default_device_autocast_and_mode(
    make_engine: MakeEngine,
) -> None:
    (expected,) = make_engine().generate(prompts(1), GREEDY)
    model = tiny_models.tiny("llama")
    model.model.train()
    try:
        with torch.device("meta"), torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
            engine = Engine(model, EngineConfig(cache_tokens=1024))
        assert model.model.training
    finally:
        model.model.eval()
    with engine:
        assert engine.generate(prompts(1), GREEDY)[0].token_ids == expected.token_ids


def test_a_runner_computes_with_the_threads_it_was_made_with() -> None:
    before = torch.get_num_threads()
    prompt = [3 + place % 100 for place in range(400)]
    table = list(range(400 // 16))
    try:
        torch.set_num_threads(1)
        runner = make_runner("llama", 16)
        alone = runner.forward([SequenceRows(prompt, 0, table, 400)]).clone()
        for threads in (2, 3):
            torch.set_num_threads(threads)
            for first, last in ((0, 1), (1, 8), (8, 141), (141, 400)):
                part = SequenceRows(prompt[first:last], first, table, last - first)
                assert torch.equal(runner.forward([part]), alone[first:last])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


class Doubled(nn.Linear):
    """A linear layer that is more than one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


def test_only_plain_linear_layers_are_replaced() -> None:
    model = nn.Sequential(nn.Linear(16, 16), Doubled(16, 16)).requires_grad_(False)
    x = torch.randn(3, 16)
    expected = copy.deepcopy(model)(x)
    settle_products(model, invariant=True)
    assert isinstance(model[0], Product)
    assert isinstance(model[1], Doubled)
    torch.testing.assert_close(model(x), expected)


def test_an_engine_that_cannot_promise_says_so_once_and_refuses_if_it_must(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ModelRunner, "_tried", lambda *_: 3)
    model = tiny_models.tiny("llama")
    with pytest.warns(InvarianceWarning, match="3 rows of a trial") as caught:
        engine = Engine(model, EngineConfig(cache_tokens=256))
    assert len(caught) == 1
    stats = engine.stats()
    assert not stats.batch_invariant
    assert "3 rows of a trial" in stats.variance
    engine.close()
    with pytest.raises(InvarianceError, match="3 rows of a trial"):
        Engine(model, EngineConfig(cache_tokens=256, invariant=True))
    with Engine(model, EngineConfig(cache_tokens=256, invariant=False)) as engine:
        assert engine.stats().variance == "invariant is False"
