"""Quantised pools under Triton kernels give the tokens and the hits of the torch path."""

from __future__ import annotations

import random

import pytest

from radixcache import SamplingParams
from tests import tiny_models
from tests.engine.conftest import MakeEngine


@pytest.mark.parametrize("kv_dtype", ["bf16", "fp8", "int8", "int4"])
def test_tokens_equal_those_of_the_torch_backend(kv_dtype: str, make_engine: MakeEngine) -> None:
    rng = random.Random(5)
    head = [rng.randrange(3, tiny_models.VOCABULARY) for _ in range(21)]
    # The prompts part in the middle of a block: what is copied carries its scales.
    batch = [[*head, *(rng.randrange(3, tiny_models.VOCABULARY) for _ in range(12))] for _ in range(2)]
    params = SamplingParams(max_tokens=2, ignore_eos=True)
    expected = make_engine(kv_dtype=kv_dtype).generate(batch, params)
    results = make_engine(kv_dtype=kv_dtype, backend="triton").generate(batch, params)
    assert [result.token_ids for result in results] == [result.token_ids for result in expected]
    assert [result.cached_tokens for result in results] == [0, 21]
