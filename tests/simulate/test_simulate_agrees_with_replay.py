"""A simulated and a real run of one log report the same cached tokens for every request."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers

from radixcache import Engine, EngineConfig, LoadedModel, SamplingParams
from radixcache.logs import read_logs
from radixcache.models.tokenizing import load_tokenizer
from radixcache.prompts.encode import PromptEncoder
from radixcache.replay.prepare import prepare
from radixcache.replay.replay import replay
from radixcache.replay.settings import ReplaySettings
from radixcache.replay.target import ReplayTarget
from radixcache.simulate.simulate import Caches, simulate
from radixcache.workload.load import load_workload
from radixcache.workload.settings import SimulateSettings
from tests.tiny_models import tiny

EXAMPLE_LOG = Path(__file__).resolve().parents[2] / "examples" / "logs" / "assistant.jsonl"
BLOCK_SIZE = 16


@pytest.fixture(scope="module")
def encoder() -> PromptEncoder:
    return PromptEncoder(load_tokenizer("smollm2-135m"), "smollm2-135m")


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    """A model with the real vocabulary and next to no weights."""
    config = transformers.LlamaConfig(
        vocab_size=49_152,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=16_384,
    )
    torch.manual_seed(0)
    made = transformers.LlamaForCausalLM(config).eval()
    return LoadedModel(made, None, "tiny", "tiny", frozenset(), 16_384, torch.device("cpu"), torch.float32)


@pytest.mark.model
@pytest.mark.parametrize(("capacity", "interleave"), [(200, None), (700, 4), (12_000, None)])
def test_every_request_of_the_example_log(
    encoder: PromptEncoder, model: LoadedModel, capacity: int, interleave: int | None
) -> None:
    config = EngineConfig(block_size=BLOCK_SIZE, cache_tokens=capacity * BLOCK_SIZE)
    target = ReplayTarget(
        model="tiny",
        dtype="float32",
        device="cpu",
        block_size=BLOCK_SIZE,
        cache_tokens=config.cache_tokens,
        tokenizer=None,
        make_engine=lambda _cache: Engine(model, config),
    )
    settings = ReplaySettings(cache="on", max_tokens=1, interleave=interleave)
    requests = prepare(read_logs([str(EXAMPLE_LOG)]), encoder, settings)
    real = replay(requests, target, settings, logs=[]).records

    workload = load_workload(read_logs([str(EXAMPLE_LOG)]), lambda: encoder)
    outcome = simulate(
        workload,
        Caches(["lru"], [capacity], [BLOCK_SIZE]),
        SimulateSettings(interleave=interleave),
        keep_records=True,
    )
    simulated = outcome.records
    assert len(real) == len(simulated) >= 60
    assert [r.cached_tokens for r in real if r.error is None] == [
        s.cached_tokens for s, r in zip(simulated, real, strict=True) if r.error is None
    ]
    refused = {r.index for r in real if r.error is not None}
    assert {s.index for s in simulated if s.too_large} <= refused
    assert sum(s.cached_tokens for s in simulated) > 0


def test_answers_that_are_cached_are_reused_alike(tmp_path: Path) -> None:
    config = EngineConfig(block_size=4, cache_tokens=4 * 4096)
    prompt = [7, 8, 9, 10, 11, 12, 13]
    prompts, answers, real = [], [], []
    with Engine(tiny("llama"), config) as engine:
        for turn in range(6):
            result = engine.generate(prompt, SamplingParams(max_tokens=5 + turn, ignore_eos=True))[0]
            prompts.append(prompt)
            answers.append(list(result.token_ids))
            real.append(result.cached_tokens)
            prompt = [*prompt, *result.token_ids, 40 + turn, 50 + turn]
    log = tmp_path / "log.jsonl"
    lines = [{"prompt_token_ids": p, "output_token_ids": a} for p, a in zip(prompts, answers, strict=True)]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    workload = load_workload(read_logs([str(log)]), no_encoder)
    caches = Caches(["lru"], [4096], [4])
    outcome = simulate(workload, caches, SimulateSettings(outputs=True), keep_records=True)
    assert [record.cached_tokens for record in outcome.records] == real
    assert real == [0, *(len(p) + len(a) - 1 for p, a in zip(prompts[:-1], answers[:-1], strict=True))]


def no_encoder() -> PromptEncoder:
    raise AssertionError("token ids need no tokenizer")
