"""Steps and what comes of them can be pickled, and an executor may be another process."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from radixcache import EngineConfig, PrefixCache, SamplingParams
from radixcache.engine.executor import Draw, PendingStep, SamplerState, StepInput, StepOutput
from radixcache.engine.handle import RequestHandle
from radixcache.engine.local_executor import LocalExecutor
from radixcache.engine.loop import StepLoop
from radixcache.engine.request import Request
from radixcache.engine.runner import ModelRunner
from radixcache.engine.step import SequenceRows
from radixcache.errors import SamplingError, describe
from radixcache.tokens import pack
from tests import tiny_models
from tests.engine.test_engine_machine import BLOCK_SIZE, NoOwner, make_runner

NUM_BLOCKS = 40
PROMPTS = [list(range(3 + 20 * i, 60 + 10 * i)) for i in range(4)]
PARAMS = [
    SamplingParams(max_tokens=12, ignore_eos=True),
    SamplingParams(max_tokens=12, n=3, temperature=1.0, seed=4, logprobs=1),
    SamplingParams(max_tokens=9, prompt_logprobs=2, repetition_penalty=1.2, min_tokens=4),
    SamplingParams(max_tokens=12, temperature=0.7, seed=1, top_p=0.9, ignore_eos=True),
]


class Pickling:
    """An executor whose every step goes through pickle on its way in and out."""

    asynchronous = False
    batch_invariant = True
    variance = ""

    def __init__(self, executor: LocalExecutor) -> None:
        self._executor = executor
        self._output: bytes = b""
        self.steps = 0

    def begin(self, step: StepInput) -> PendingStep:
        self.steps += 1
        pending = self._executor.begin(pickle.loads(pickle.dumps(step)))
        self._output = pickle.dumps(pending.result())
        return self

    def result(self) -> StepOutput:
        output: StepOutput = pickle.loads(self._output)
        return output

    def forget(self, request: int) -> None:
        self._executor.forget(request)

    def close(self) -> None:
        self._executor.close()


class Remote:
    """An executor in a child process, told over a pipe."""

    asynchronous = True
    batch_invariant = True
    variance = ""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def begin(self, step: StepInput) -> PendingStep:
        self._pipe.send(step)
        return self

    def result(self) -> StepOutput:
        output = self._pipe.recv()
        if isinstance(output, str):
            raise RuntimeError(output)
        assert isinstance(output, StepOutput)
        return output

    def forget(self, request: int) -> None:
        self._pipe.send(request)

    def close(self) -> None:
        self._pipe.send(None)


def serve(pipe: Connection) -> None:
    executor = LocalExecutor(make_runner(tiny_models.tiny("llama"), NUM_BLOCKS))
    failures = 1
    while (message := pipe.recv()) is not None:
        if isinstance(message, int):
            executor.forget(message)
            continue
        try:
            if failures and len(message.parts) > 2:
                failures -= 1
                raise MemoryError("too large")
            pipe.send(executor.begin(message).result())
        except Exception as error:
            pipe.send(describe(error))
    executor.close()


@pytest.fixture
def remote() -> Iterator[Remote]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=serve, args=(theirs,), daemon=True)
    child.start()
    try:
        yield Remote(ours)
    finally:
        ours.send(None)
        child.join(60)
        assert child.exitcode == 0
        child.close()


def run(executor: Any) -> list[object]:
    model = tiny_models.tiny("llama")
    cache = PrefixCache(NUM_BLOCKS, BLOCK_SIZE)
    config = EngineConfig(block_size=BLOCK_SIZE, max_batch_tokens=64, max_running=4)
    loop = StepLoop(cache, executor, model, config)
    requests = []
    for number, (prompt, params) in enumerate(zip(PROMPTS, PARAMS, strict=True)):
        request = Request(RequestHandle(f"request-{number}", NoOwner()), pack(prompt), params)
        request.new_sequence(model)
        loop.add(request)
        requests.append(request)
    for _ in range(500):
        if loop.has_work:
            loop.step()
    results = [request.handle.result(0) for request in requests]
    assert cache.stats().leases == 0
    return [(result.completions, result.prompt_logprobs, result.misses) for result in results]


@pytest.fixture(scope="module")
def expected() -> list[object]:
    return run(LocalExecutor(make_runner(tiny_models.tiny("llama"), NUM_BLOCKS)))


def test_steps_and_outputs_survive_pickling(expected: list[object]) -> None:
    executor = Pickling(LocalExecutor(make_runner(tiny_models.tiny("llama"), NUM_BLOCKS)))
    assert run(executor) == expected
    assert executor.steps > 10


def test_an_executor_in_another_process_gives_the_same(remote: Remote, expected: list[object]) -> None:
    assert run(remote) == expected


def test_samplers_are_dropped_with_their_request() -> None:
    executor = LocalExecutor(make_runner(tiny_models.tiny("llama"), NUM_BLOCKS))
    run(executor)
    assert executor._sampled == {}


def test_a_step_without_parts_only_prepares_blocks() -> None:
    runner = make_runner(tiny_models.tiny("llama"), NUM_BLOCKS)
    for storage in runner._pool.storages:
        storage.fill_(7)
    assert LocalExecutor(runner).begin(StepInput((), [3], ())).result() == StepOutput()
    for storage in runner._pool.storages:
        assert not storage[:, 3].any()
        assert storage[:, 4].all()


class Interrupted:
    """Logits of a vocabulary of 50 whose most likely token in row r of step s is 7 s + r."""

    asynchronous = False
    batch_invariant = True
    variance = ""

    def __init__(self) -> None:
        self.steps = 0

    def prepare(self, fresh_blocks: Sequence[int], copies: Sequence[Any]) -> None: ...

    def forward(self, parts: Sequence[SequenceRows]) -> Tensor:
        logits = torch.zeros(sum(part.keep for part in parts), 50)
        for row in range(len(logits)):
            logits[row, 7 * self.steps + row] = 9.0
        self.steps += 1
        return logits

    def close(self) -> None: ...


def answer(executor: LocalExecutor, draws: Sequence[Draw], parts: Sequence[Sequence[int]]) -> list[object]:
    """What draws get; every row of the parts, which are of these tokens, has logits."""
    rows = [SequenceRows(tokens, 0, [0], len(tokens)) for tokens in parts]
    found = executor.begin(StepInput(rows, draws=draws)).result().tokens
    return [one if isinstance(one, Exception) else [token.token_id for token in one] for one in found]


def first_draw(number: int) -> Draw:
    return Draw((number, 0), number, 0, 0, SamplerState(SamplingParams(), pack([5]), frozenset()))


def test_a_repeated_draw_gets_the_same_token() -> None:
    executor = LocalExecutor(cast(ModelRunner, Interrupted()))
    assert answer(executor, [first_draw(0), first_draw(1)], [[5], [5]]) == [[0], [1]]
    # The first sequence's token was noted before the step failed, the second's was not.
    assert answer(executor, [Draw((0, 0), 0, 1)], [[5]]) == [[7]]
    draws = [Draw((0, 0), 0, 2), Draw((1, 0), 1, 1)]
    assert answer(executor, draws, [[5], [5]]) == [[14], [15]]
    assert answer(executor, draws[::-1], [[5], [5]]) == [[15], [14]]
    assert answer(executor, [Draw((0, 0), 0, 3), Draw((1, 0), 1, 2)], [[5], [5]]) == [[28], [29]]


def test_repeated_draws_with_other_drafts_get_the_tokens_that_follow_these() -> None:
    executor = LocalExecutor(cast(ModelRunner, Interrupted()))
    assert answer(executor, [first_draw(0)], [[5]]) == [[0]]
    assert answer(executor, [Draw((0, 0), 0, 1, 2)], [[0, 7, 8]]) == [[7, 8, 9]]
    assert answer(executor, [Draw((0, 0), 0, 1)], [[0]]) == [[7]]
    assert answer(executor, [Draw((0, 0), 0, 1, 1)], [[0, 8]]) == [[7]]
    assert answer(executor, [Draw((0, 0), 0, 1, 1)], [[0, 7]]) == [[7, 8]]
    assert answer(executor, [Draw((0, 0), 0, 3)], [[8]]) == [[9]]
    assert answer(executor, [Draw((0, 0), 0, 4)], [[9]]) == [[42]]


@pytest.mark.parametrize("position", [0, 1, 4])
def test_a_token_that_is_not_remembered_is_lost(position: int) -> None:
    executor = LocalExecutor(cast(ModelRunner, Interrupted()))
    answer(executor, [first_draw(0)], [[5]])
    for sampled in (1, 2):
        answer(executor, [Draw((0, 0), 0, sampled)], [[5]])
    (error,) = answer(executor, [Draw((0, 0), 0, position)], [[5]])
    assert isinstance(error, SamplingError)
    assert str(error) == f"token {position} cannot be sampled: an earlier one was lost by an error"


@pytest.mark.parametrize("moment", ["before they are noted", "after they are noted"])
def test_tokens_survive_a_step_that_fails_after_they_were_sampled(
    moment: str, expected: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    take, calls = StepLoop._take, 0

    def broken(self: StepLoop, *args: Any) -> None:
        nonlocal calls
        calls += 1
        if moment.startswith("before") and calls % 5 == 4:
            raise RuntimeError("out of luck")
        take(self, *args)
        if moment.startswith("after") and calls % 5 == 4:
            raise RuntimeError("out of luck")

    monkeypatch.setattr(StepLoop, "_take", broken)
    found = run(LocalExecutor(make_runner(tiny_models.tiny("llama"), NUM_BLOCKS)))
    assert calls > 10
    tokens = [[(one.token_ids, one.finish_reason) for one in result[0]] for result in found]  # type: ignore[index]
    wanted = [[(one.token_ids, one.finish_reason) for one in result[0]] for result in expected]  # type: ignore[index]
    assert tokens == wanted
