"""The embedded model on real prompts: transformers' tokens, and the same with the cache on or off."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch

from radixcache import Engine, EngineConfig, LoadedModel, SamplingParams, load_model
from radixcache.logs import read_logs
from radixcache.models.dtypes import has_bfloat16_units
from radixcache.prompts.encode import PromptEncoder

EXAMPLE_LOG = Path(__file__).parents[2] / "examples" / "logs" / "assistant.jsonl"
PROMPTS = 6
NEW_TOKENS = 16


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_model("smollm2-135m", dtype="float32")


def real_prompts(model: LoadedModel, log: Path) -> Iterator[list[int]]:
    """Chat prompts of 100 to 1,200 tokens, as the model's template renders them."""
    with lzma.open(log, "rt", encoding="utf-8") as lines:
        for line in lines:
            messages = [
                {"role": message["role"], "content": message["content"] or ""}
                for message in json.loads(line)["messages"]
            ]
            assert model.tokenizer is not None
            text = model.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            ids = model.tokenizer.encode(text, add_special_tokens=False)
            if 100 <= len(ids) <= 1200:
                yield ids


@pytest.mark.data
@pytest.mark.model
def test_greedy_tokens_equal_generate_on_real_prompts_cache_on_and_off(
    model: LoadedModel, shared_data: Path
) -> None:
    reference = load_model("smollm2-135m", dtype="float32").model
    batch = list(islice(real_prompts(model, shared_data / "multiturn_chat.jsonl.xz"), PROMPTS))
    params = SamplingParams(max_tokens=NEW_TOKENS)
    with Engine(model, EngineConfig(cache=False)) as engine:
        off = engine.generate(batch, params)
    with Engine(model, EngineConfig()) as engine:
        on = engine.generate(batch, params)
        assert sum(result.cached_tokens for result in on) > 0
    for prompt, with_cache, without in zip(batch, on, off, strict=True):
        out = reference.generate(
            torch.tensor([prompt]), max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=2
        )
        assert without.token_ids == tuple(out[0, len(prompt) :].tolist())
        assert with_cache.token_ids == without.token_ids


@pytest.mark.model
def test_chat_reuses_everything_said_before(model: LoadedModel) -> None:
    with Engine(model) as engine:
        chat = engine.chat(system="You answer in one sentence.")
        first = "".join(chat.stream("What is the capital of France?"))
        assert "Paris" in first
        said = len(chat.token_ids)
        chat.send("And of Italy?")
        assert chat.last_usage is not None
        # All but the last generated token, which was sampled but never computed.
        assert chat.last_usage.cached_tokens >= said - 1
        assert [message["role"] for message in chat.messages] == ["system", *["user", "assistant"] * 2]
        again = engine.chat(system="You answer in one sentence.")
        again.send("What is the capital of Spain?")
        assert again.last_usage is not None
        assert again.last_usage.cached_tokens > 10


@pytest.mark.model
def test_the_example_log_has_the_same_bits_with_the_cache_on_and_off_in_bfloat16() -> None:
    model = load_model("smollm2-135m", dtype="bfloat16")
    few = None if has_bfloat16_units() else 4  # without units a prompt takes ten seconds
    encoder = PromptEncoder(model.tokenizer, "smollm2-135m")
    batch = [encoder.encode(request) for request in islice(read_logs([str(EXAMPLE_LOG)], strict=True), few)]
    params = SamplingParams(max_tokens=4, logprobs=1, ignore_eos=True)
    with Engine(model, EngineConfig(cache=False)) as engine:
        off = engine.generate(batch, params)
    with Engine(model, EngineConfig(max_batch_tokens=200)) as engine:
        on = engine.generate(batch, params)
        stats = engine.stats()
        assert stats.batch_invariant, stats.variance
        assert stats.cache.cached_tokens > 0
    assert [result.completions for result in on] == [result.completions for result in off]
