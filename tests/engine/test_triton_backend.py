"""The engine over Triton kernels: in the interpreter on a CPU, compiled on a GPU."""

from __future__ import annotations

import random

import pytest
import torch

from radixcache import SamplingParams
from tests import tiny_models
from tests.engine.conftest import MakeEngine


@pytest.mark.parametrize("name", ["llama", "gpt-oss-sinks"])
def test_tokens_equal_those_of_the_torch_backend(name: str, make_engine: MakeEngine) -> None:
    rng = random.Random(name)
    head = [rng.randrange(3, tiny_models.VOCABULARY) for _ in range(35)]
    # Two prompts part in the middle of a block, so the second one copies a part of it.
    batch = [[*head, *(rng.randrange(3, 128) for _ in range(20))] for _ in range(2)]
    params = SamplingParams(max_tokens=2, ignore_eos=True)
    expected = make_engine(name).generate(batch, params)
    results = make_engine(name, backend="triton").generate(batch, params)
    assert [r.token_ids for r in results] == [r.token_ids for r in expected]
    assert [r.cached_tokens for r in results] == [r.cached_tokens for r in expected]
    assert results[1].cached_tokens == 35


@pytest.mark.gpu
@pytest.mark.parametrize("name", tiny_models.NAMES)
def test_tokens_on_a_gpu_equal_those_on_a_cpu(name: str, make_engine: MakeEngine) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    rng = random.Random(name)
    batch = [[rng.randrange(3, 128) for _ in range(rng.randrange(20, 400))] for _ in range(6)]
    params = SamplingParams(max_tokens=12)
    expected = make_engine(name).generate(batch, params)
    results = make_engine(name, device="cuda").generate(batch, params)
    assert [r.token_ids for r in results] == [r.token_ids for r in expected]
