"""A hit, a neighbour or another chunking changes no bit of what is read from a cache of fewer bits."""

from __future__ import annotations

import random

import pytest
import torch

from radixcache import SamplingParams
from radixcache.cache.lease import BlockCopy
from radixcache.engine.backends.torch.backend import TorchBackend
from radixcache.engine.runner import ModelRunner
from radixcache.engine.step import SequenceRows
from radixcache.kv.formats import KV_DTYPES
from radixcache.kv.layout import KVLayout
from radixcache.kv.pool import PagedPool
from tests import tiny_models
from tests.engine.conftest import MakeEngine

LENGTH = 560
STORED = [name for name in KV_DTYPES if name != "auto"]
KINDS = ["llama", "gemma2-softcap", "gpt-oss-sinks"]


def make_runner(name: str, kv_dtype: str, block_size: int = 16) -> ModelRunner:
    loaded = tiny_models.tiny(name)
    layout = KVLayout.of(loaded.model.config, block_size, loaded.dtype, kv_dtype)
    pool = PagedPool(layout, 4096 // block_size, torch.device("cpu"))
    return ModelRunner(loaded, pool, TorchBackend(pool))


def random_ids(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(3, tiny_models.VOCABULARY) for _ in range(count)]


def shuffled(rng: random.Random, first: int, last: int, length: int, block_size: int = 16) -> list[int]:
    return rng.sample(range(first, last), -(-length // block_size))


@pytest.mark.parametrize("kv_dtype", STORED)
@pytest.mark.parametrize("name", KINDS)
def test_logits_do_not_depend_on_batch_chunks_or_cached_length(name: str, kv_dtype: str) -> None:
    rng = random.Random(name)
    runner = make_runner(name, kv_dtype)
    prompt = random_ids(rng, LENGTH)
    table = shuffled(rng, 0, 64, LENGTH)
    alone = runner.forward([SequenceRows(prompt, 0, table, LENGTH)])
    for cached, sizes in ((0, (1, 2, 13, 100, 256, 188)), (16, (5, 300, 239)), (272, (31, 1, 256))):
        other = table[: cached // 16] + shuffled(rng, 64, 128, LENGTH)[cached // 16 :]
        runner.prepare(other[cached // 16 :], [])
        position, rows = cached, []
        for count in sizes:
            neighbour = SequenceRows(random_ids(rng, 40), 0, shuffled(rng, 128, 200, 40), 1)
            part = SequenceRows(prompt[position : position + count], position, other, count)
            rows.append(runner.forward([neighbour, part])[1:])
            position += count
        assert position == LENGTH
        assert torch.equal(torch.cat(rows), alone[cached:])


@pytest.mark.parametrize("kv_dtype", STORED)
def test_decoding_on_a_copied_tail_gives_the_bits_of_prefill(kv_dtype: str) -> None:
    rng = random.Random(kv_dtype)
    runner = make_runner("llama", kv_dtype)
    prompt = random_ids(rng, 90)
    table, other = shuffled(rng, 0, 64, 90), shuffled(rng, 64, 128, 90)
    alone = runner.forward([SequenceRows(prompt, 0, table, 90)])
    # 70 tokens are reused: four blocks, and six tokens of the fifth, copied into a block that holds NaNs.
    for storage in runner._pool.storages:
        storage[:, other] = torch.nan if storage.is_floating_point() else 77
    runner.prepare(other, [BlockCopy(table[4], other[4], 6)])
    mixed = table[:4] + other[4:]
    rows = [runner.forward([SequenceRows([prompt[at]], at, mixed, 1)]) for at in range(70, 90)]
    assert torch.equal(torch.cat(rows), alone[70:])


@pytest.mark.parametrize("kv_dtype", STORED)
def test_tokens_of_an_engine_are_the_same_on_a_hit(kv_dtype: str, make_engine: MakeEngine) -> None:
    rng = random.Random(kv_dtype)
    head = random_ids(rng, 133)
    prompts = [[*head, *random_ids(rng, 21)] for _ in range(3)]
    params = SamplingParams(max_tokens=24, ignore_eos=True)
    engine = make_engine(kv_dtype=kv_dtype)
    results = [engine.generate([prompt], params)[0] for prompt in [*prompts, *prompts]]
    off = make_engine(kv_dtype=kv_dtype, cache=False).generate(prompts, params)
    assert [result.token_ids for result in results] == [result.token_ids for result in off] * 2
    assert [result.cached_tokens for result in results[1:]] == [133, 133, 153, 153, 153]


@pytest.mark.parametrize(
    ("kv_dtype", "error"), [("fp16", 2e-3), ("bf16", 2e-2), ("fp8", 0.15), ("int8", 0.03), ("int4", 0.3)]
)
def test_logits_stay_near_those_of_the_full_cache(kv_dtype: str, error: float) -> None:
    rng = random.Random(kv_dtype)
    prompt = random_ids(rng, 200)
    rows = [SequenceRows(prompt, 0, list(range(13)), 200)]
    exact = make_runner("llama", "auto").forward(rows)
    stored = make_runner("llama", kv_dtype).forward(rows)
    assert not torch.equal(stored, exact)
    assert (stored - exact).std() < error * exact.std()
