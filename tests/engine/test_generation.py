"""What comes out: the same tokens as transformers, whatever the cache does."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
import torch

from radixcache import SamplingParams
from tests import tiny_models
from tests.engine.conftest import MakeEngine
from tests.naive import lcp


def prompts(rng: random.Random, count: int, longest: int = 500) -> list[list[int]]:
    """Random prompts, half of them continuing an earlier one at a random place."""
    made: list[list[int]] = []
    for _ in range(count):
        head = rng.choice(made)[: rng.randrange(1, longest)] if made and rng.random() < 0.5 else []
        made.append(
            head + [rng.randrange(3, tiny_models.VOCABULARY) for _ in range(rng.randrange(1, longest // 2))]
        )
    return made


@pytest.mark.parametrize("name", tiny_models.NAMES)
def test_greedy_tokens_equal_transformers_generate(name: str, make_engine: MakeEngine) -> None:
    engine = make_engine(name)
    batch = prompts(random.Random(name), 6)
    params = SamplingParams(max_tokens=12)
    results = engine.generate(batch, params)
    reference = tiny_models.reference(name)
    for prompt, result in zip(batch, results, strict=True):
        out = reference.generate(
            torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=2, pad_token_id=0
        )
        assert result.token_ids == tuple(out[0, len(prompt) :].tolist())
        assert result.finish_reason == ("stop" if result.token_ids[-1] == 2 else "length")


@pytest.mark.parametrize("name", ["llama", "mistral-window", "gemma2-softcap"])
def test_cache_on_and_off_give_identical_tokens_and_logprobs(name: str, make_engine: MakeEngine) -> None:
    batch = prompts(random.Random(5), 20)
    params = SamplingParams(max_tokens=10, ignore_eos=True, logprobs=2)
    off = make_engine(name, cache=False).generate(batch, params)
    on = make_engine(name, max_batch_tokens=64, block_size=8).generate(batch, params)
    assert sum(result.cached_tokens for result in off) == 0
    assert sum(result.cached_tokens for result in on) > 0
    for a, b in zip(off, on, strict=True):
        assert a.token_ids == b.token_ids
        assert a.completions[0].logprobs == b.completions[0].logprobs


@pytest.mark.parametrize("block_size", [1, 4, 16, 64])
def test_cached_tokens_equal_the_longest_prefix_computed_before(
    block_size: int, make_engine: MakeEngine
) -> None:
    engine = make_engine(block_size=block_size, cache_tokens=65536)
    seen: list[tuple[int, ...]] = []
    for prompt in prompts(random.Random(block_size), 40):
        result = engine.generate(prompt, SamplingParams(max_tokens=3, ignore_eos=True))[0]
        best = max((lcp(prompt, other) for other in seen), default=0)
        assert result.cached_tokens == min(best, len(prompt) - 1)
        assert sum(result.misses.values()) == len(prompt) - result.cached_tokens
        # The last token that was sampled has not been computed.
        seen.append((*prompt, *result.token_ids[:-1]))


def test_requests_that_share_an_uncomputed_prefix_compute_it_once(make_engine: MakeEngine) -> None:
    engine = make_engine(max_batch_tokens=128)
    shared = [7 + i % 100 for i in range(640)]
    batch = [[*shared, *(3 + (i * 7 + j) % 100 for j in range(20))] for i in range(8)]
    results = engine.generate(batch, SamplingParams(max_tokens=2, ignore_eos=True))
    assert [result.cached_tokens for result in results[1:]] == [640] * 7
    assert engine.stats().prefill_tokens == 640 + 8 * 20


def test_a_full_hit_recomputes_only_the_last_token(make_engine: MakeEngine) -> None:
    engine = make_engine()
    prompt = list(range(3, 3 + 64))
    first, second = (engine.generate(prompt, SamplingParams(max_tokens=4))[0] for _ in range(2))
    assert second.cached_tokens == 63
    assert second.misses == {"last_token": 1}
    assert first.token_ids == second.token_ids


def test_namespaces_share_nothing(make_engine: MakeEngine) -> None:
    engine = make_engine()
    prompt = list(range(3, 90))
    engine.generate(prompt, SamplingParams(max_tokens=2), namespace="a")
    other = engine.generate(prompt, SamplingParams(max_tokens=2), namespace="b")[0]
    assert other.cached_tokens == 0
    assert other.misses == {"other_namespace": len(prompt)}


def test_several_completions_fork_from_one_prefill(make_engine: MakeEngine) -> None:
    engine = make_engine()
    prompt = list(range(3, 103))
    params = SamplingParams(max_tokens=8, n=4, temperature=1.0, seed=1, ignore_eos=True)
    many = engine.generate(prompt, params)[0]
    assert engine.stats().prefill_tokens == len(prompt)
    assert [completion.index for completion in many.completions] == [0, 1, 2, 3]
    assert len({completion.token_ids for completion in many.completions}) > 1
    assert many.completion_tokens == 32
    again = engine.generate(prompt, params)[0]
    assert [a.token_ids for a in again.completions] == [b.token_ids for b in many.completions]


def test_a_seeded_sample_does_not_depend_on_its_batch(make_engine: MakeEngine) -> None:
    engine = make_engine()
    batch = prompts(random.Random(3), 6, 60)
    params = SamplingParams(max_tokens=8, temperature=0.9, top_p=0.9, seed=11, ignore_eos=True)
    together = engine.generate(batch, params)
    alone = [engine.generate(prompt, params)[0] for prompt in batch]
    assert [r.token_ids for r in together] == [r.token_ids for r in alone]


def test_prompt_logprobs_are_those_of_the_model_and_skip_cached_prefixes(make_engine: MakeEngine) -> None:
    engine = make_engine(max_batch_tokens=50)
    prompt = prompts(random.Random(9), 1, 300)[0]
    engine.generate(prompt, SamplingParams(max_tokens=2))
    result = engine.generate(prompt, SamplingParams(max_tokens=2, prompt_logprobs=1))[0]
    assert result.cached_tokens == 0
    assert result.prompt_logprobs is not None
    with torch.inference_mode():
        logits = tiny_models.reference("llama")(torch.tensor([prompt])).logits[0]
    expected = torch.log_softmax(logits, -1)
    assert result.prompt_logprobs[0] is None
    assert len(result.prompt_logprobs) == len(prompt)
    for place, (_, token) in enumerate(pairwise(prompt)):
        entry = result.prompt_logprobs[place + 1]
        assert entry is not None
        assert entry.token_id == token
        assert entry.logprob == pytest.approx(expected[place, token].item(), abs=1e-4)
