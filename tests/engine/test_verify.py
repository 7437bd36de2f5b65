"""Drafted tokens are verified several in a step, and nothing that a result says depends on it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from radixcache import EngineConfig, GenerationResult, PrefixCache, SamplingParams
from radixcache.cache.check import check_invariants
from radixcache.engine.handle import RequestHandle
from radixcache.engine.local_executor import LocalExecutor
from radixcache.engine.loop import StepLoop
from radixcache.engine.request import Request
from radixcache.tokens import TOKEN_BYTES, pack, unpack
from tests.engine.letters import lettered
from tests.engine.test_engine_machine import BLOCK_SIZE, NoOwner, make_runner

NUM_BLOCKS = 60
PROMPTS = [[3 + (7 * head + token * token) % 120 for token in range(20 + 9 * head)] for head in range(3)]
KINDS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "seeded": {"temperature": 1.0, "seed": 3},
    "several": {"temperature": 1.0, "seed": 3, "n": 3, "logprobs": 1},
    "penalties": {"repetition_penalty": 1.3, "frequency_penalty": 0.4, "temperature": 0.8, "seed": 1},
    "logprobs of the prompt": {"prompt_logprobs": 1, "logprobs": 2},
    "stop strings": {"stop": ("丧", "乏丐"), "temperature": 1.2, "seed": 9},
    "stop tokens": {"stop_token_ids": tuple(range(30, 50)), "min_tokens": 5, "temperature": 1.0, "seed": 2},
}


class Oracle:
    """Drafts what is known to come, with a wrong token now and then."""

    def __init__(self, known: list[list[int]], wrong: float) -> None:
        self._known = known
        self._wrong = wrong
        self._random = random.Random(0)
        self.proposed = 0

    def propose(self, tokens: bytes | bytearray, most: int) -> Sequence[int]:
        sequence = unpack(tokens)
        for whole in self._known:
            if whole[: len(sequence)] == sequence:
                draft = whole[len(sequence) :][: min(most, 4)]
                self.proposed += len(draft)
                return [
                    (token + 1) % 100 if self._random.random() < self._wrong else token for token in draft
                ]
        return []


class Broken:
    """A drafter that cannot draft, or drafts what is no token."""

    def propose(self, tokens: bytes | bytearray, most: int) -> Sequence[int]:
        if len(tokens) % 3:
            raise RuntimeError("out of luck")
        return [-5, 10**12]


def run(
    kind: dict[str, Any], drafter: Any = None, num_blocks: int = NUM_BLOCKS
) -> tuple[list[Any], StepLoop]:
    model = lettered()
    cache = PrefixCache(num_blocks, BLOCK_SIZE)
    config = EngineConfig(block_size=BLOCK_SIZE, max_batch_tokens=40, max_running=6)
    executor = LocalExecutor(make_runner(model, num_blocks))
    loop = StepLoop(cache, executor, model, config, drafter=drafter)
    params = SamplingParams(**({"max_tokens": 30, "ignore_eos": True} | kind))
    requests = []
    for number, prompt in enumerate(PROMPTS):
        request = Request(RequestHandle(f"request-{number}", NoOwner()), pack(prompt), params)
        request.new_sequence(model)
        loop.add(request)
        requests.append(request)
    for _ in range(2000):
        if not loop.has_work:
            break
        loop.step()
        check_invariants(cache)
    results = [request.handle.result(0) for request in requests]
    for request in requests:
        deltas = list(request.handle.events())
        for completion in request.handle.result(0).completions:
            own = [delta for delta in deltas if delta.index == completion.index]
            assert "".join(delta.text for delta in own) == completion.text
            assert tuple(token for delta in own for token in delta.token_ids) == completion.token_ids
    stats = cache.stats()
    assert stats.leases == stats.protected_blocks == 0
    return results, loop


def essence(result: GenerationResult) -> object:
    return result.completions, result.prompt_logprobs, result.cached_tokens, result.misses


def whole(results: list[GenerationResult]) -> list[list[int]]:
    return [
        [*prompt, *completion.token_ids]
        for prompt, result in zip(PROMPTS, results, strict=True)
        for completion in result.completions
    ]


@pytest.mark.parametrize("wrong", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_drafting_changes_nothing_but_the_number_of_steps(kind: str, wrong: float) -> None:
    expected, plain = run(KINDS[kind])
    oracle = Oracle(whole(expected), wrong)
    found, loop = run(KINDS[kind], oracle)
    assert [essence(result) for result in found] == [essence(result) for result in expected]
    assert oracle.proposed > 0
    ratio = loop.stats().steps / plain.stats().steps
    assert ratio < 0.6 if not wrong else ratio <= 1
    resident = [plain.stats().cache.cached_tokens_resident, loop.stats().cache.cached_tokens_resident]
    if "stop" not in KINDS[kind]:  # what was verified beyond a stop string stays cached
        assert resident[0] == resident[1]


def test_drafting_where_blocks_are_short_preempts_no_more() -> None:
    expected, _ = run({"max_tokens": 60}, num_blocks=20)
    roomy, _ = run({"max_tokens": 60})
    found, loop = run({"max_tokens": 60}, Oracle(whole(roomy), 0.2), num_blocks=20)
    assert [result.token_ids for result in found] == [result.token_ids for result in expected]
    assert loop.stats().preemptions > 0


def test_a_drafter_that_fails_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    expected, plain = run({})
    found, loop = run({}, Broken())
    assert [essence(result) for result in found] == [essence(result) for result in expected]
    assert loop.stats().steps == plain.stats().steps
    assert "is not drafted for" in caplog.text


def test_drafts_are_bounded_by_what_is_asked_for_and_by_the_step() -> None:
    asked: list[tuple[int, int]] = []

    class Watching(Oracle):
        def propose(self, tokens: bytes | bytearray, most: int) -> Sequence[int]:
            asked.append((len(tokens) // TOKEN_BYTES, most))
            return list(range(100))  # more than it may

    results, _ = run({"max_tokens": 6}, Watching([], 0.0))
    assert all(len(result.token_ids) == 6 for result in results)
    assert asked
    assert all(1 <= most <= 4 for _, most in asked)
