"""A request is answered from its own keys and values, whoever ran in the steps before it."""

from __future__ import annotations

import random
import time

from radixcache import Engine, SamplingParams
from tests import tiny_models
from tests.engine.conftest import MakeEngine

BLOCK = 16


def tokens(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(3, tiny_models.VOCABULARY) for _ in range(count)]


def beam_search(engine: Engine, prompt: list[int], width: int = 4, steps: int = 20) -> list[list[int]]:
    """Prompts that differ in their last tokens only, one new token of each a step."""
    beams = [(0.0, list(prompt))]
    params = SamplingParams(max_tokens=1, ignore_eos=True, logprobs=width)
    for _ in range(steps):
        results = engine.generate([ids for _, ids in beams], params)
        found = []
        for (score, ids), result in zip(beams, results, strict=True):
            logprobs = result.completions[0].logprobs
            assert logprobs is not None
            found += [(score + logprob, [*ids, token]) for token, logprob in logprobs[0].top]
        beams = sorted(found, key=lambda beam: -beam[0])[:width]
    return [ids[len(prompt) :] for _, ids in beams]


def test_a_request_that_follows_one_with_the_same_first_block_is_answered_as_alone(
    make_engine: MakeEngine,
) -> None:
    rng = random.Random(0)
    head = tokens(rng, BLOCK)
    first, second = head + tokens(rng, 24), head + tokens(rng, 34)
    params = SamplingParams(max_tokens=12, ignore_eos=True)
    (alone,) = make_engine(cache=False).generate([second], params)
    engine = make_engine(max_running=1)
    engine.generate([second], SamplingParams(max_tokens=1, ignore_eos=True))
    # The second waits for the first, whose last step has the position before the second's only new row.
    before = engine.submit(first, SamplingParams(max_tokens=10, ignore_eos=True))
    while not engine.stats().running and not before.done:
        time.sleep(0.001)
    after = engine.submit(second, params)
    before.result()
    assert after.result().token_ids == alone.token_ids
    assert after.result().cached_tokens == len(second) - 1
    # What it computed was published: a conversation that goes on from it reuses that.
    longer = [*second, *alone.token_ids, 9]
    (goes_on,) = engine.generate([longer], params)
    assert goes_on.cached_tokens > len(second)
    assert goes_on.token_ids == make_engine(cache=False).generate([longer], params)[0].token_ids


def test_beam_search_finds_the_same_beams_with_the_cache_on(make_engine: MakeEngine) -> None:
    rng = random.Random(1)
    for _ in range(4):
        prompt = tokens(rng, rng.randrange(20, 120))
        assert beam_search(make_engine(), prompt) == beam_search(make_engine(cache=False), prompt)
