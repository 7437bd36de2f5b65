"""Cached tokens of every request equal a brute-force reference, on the example log and a real one."""

from __future__ import annotations

from array import array
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from radixcache import Engine, EngineConfig, LoadedModel, PrefixCache, SamplingParams
from radixcache.logs import read_logs
from radixcache.models.embedded import embedded_folder
from radixcache.prompts.encode import PromptEncoder
from tests.naive import lcp

EXAMPLE_LOG = Path(__file__).resolve().parents[2] / "examples" / "logs" / "assistant.jsonl"
VOCABULARY = 49_152
BLOCK_SIZE = 16

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def encoder() -> PromptEncoder:
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(embedded_folder(lambda _line: None))
    return PromptEncoder(tokenizer, "smollm2-135m")


def tiny_model() -> LoadedModel:
    """A model with the real vocabulary and next to no weights."""
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=16_384,
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).eval()
    return LoadedModel(model, None, "tiny", "tiny", frozenset(), 16_384, torch.device("cpu"), torch.float32)


def test_engine_on_the_example_log(encoder: PromptEncoder) -> None:
    prompts = [encoder.encode(entry) for entry in read_logs([EXAMPLE_LOG])]
    assert len(prompts) >= 60
    computed: list[array[int]] = []
    params = SamplingParams(max_tokens=3)
    with Engine(tiny_model(), EngineConfig(block_size=BLOCK_SIZE, cache_tokens=200_000)) as engine:
        for prompt in prompts:
            result = engine.generate(prompt, params)[0]
            best = max((lcp(prompt, other) for other in computed), default=0)
            assert result.cached_tokens == min(best, len(prompt) - 1)
            assert sum(result.misses.values()) == len(prompt) - result.cached_tokens
            computed.append(prompt + array("i", result.token_ids[:-1]))


@pytest.mark.data
def test_cache_on_three_hundred_calls_of_a_real_agent(encoder: PromptEncoder, shared_data: Path) -> None:
    log = shared_data / "airline_agent.jsonl.xz"
    prompts = [encoder.encode(entry) for entry in islice(read_logs([log]), 300)]
    cache = PrefixCache(num_blocks=100_000, block_size=BLOCK_SIZE)
    computed: list[array[int]] = []
    for prompt in prompts:
        with cache.acquire(prompt) as lease:
            best = max((lcp(prompt, other) for other in computed), default=0)
            assert lease.num_cached_tokens == min(best, len(prompt) - 1)
            lease.commit(len(prompt))
        computed.append(prompt)
    assert cache.stats().hit_rate > 0.8
