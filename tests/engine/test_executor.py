"""Steps and what comes of them can be pickled, and an executor may be another process."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import pytest

from radixcache import EngineConfig, PrefixCache, SamplingParams
from radixcache.engine.executor import PendingStep, StepInput, StepOutput
from radixcache.engine.handle import RequestHandle
from radixcache.engine.local_executor import LocalExecutor
from radixcache.engine.loop import StepLoop
from radixcache.engine.request import Request
from radixcache.errors import describe
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
