"""Recorded decode steps give the tokens of eager ones, and depend on nothing but their static buffers."""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable
from itertools import chain

import numpy as np
import pytest
import torch
from torch import Tensor

from radixcache import Engine, GenerationResult, SamplingParams
from radixcache.engine.backends import make_backend
from radixcache.engine.cuda.buffers import StaticBuffers
from radixcache.engine.cuda.graphs import StepGraphs, sizes_up_to, width_for
from radixcache.engine.cuda.recorder import Recorder
from radixcache.engine.runner import ModelRunner
from radixcache.engine.step import SequenceRows, StepBatch
from radixcache.kv.layout import KVLayout
from radixcache.kv.pool import PagedPool
from tests import tiny_models
from tests.engine.conftest import MakeEngine
from tests.engine.cuda_stand_ins import GatherBackend, RerunRecorder, TapeRecorder, static_tensors, weights

CPU = torch.device("cpu")


@pytest.fixture
def make_recorded(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Engine]:
    """Makes engines over `GatherBackend`, with steps recorded or not."""
    buffers: list[StaticBuffers] = []
    made = StaticBuffers.__init__

    def init(self: StaticBuffers, *args: object) -> None:
        made(self, *args)  # type: ignore[arg-type]
        buffers.append(self)

    monkeypatch.setattr(StaticBuffers, "__init__", init)

    def make(name: str = "llama", *, recorded: bool = True, **config: object) -> Engine:
        engines: list[Engine] = []
        pools: list[PagedPool] = []

        def backend(pool: PagedPool, *_: object) -> GatherBackend:
            pools.append(pool)
            return GatherBackend(pool)

        def lasting() -> list[Tensor]:
            stored = (pools[-1].keys, pools[-1].values)
            return [
                *weights(engines[-1].model.model),  # its own copy
                *chain.from_iterable(stored),
                *chain.from_iterable(map(static_tensors, buffers)),
            ]

        def recorder(*_: object) -> Recorder | None:
            return TapeRecorder(lasting) if recorded else None

        monkeypatch.setattr("radixcache.engine.engine.make_backend", backend)
        monkeypatch.setattr("radixcache.engine.engine._recorder", recorder)
        engines.append(make_engine(name, **({"invariant": False} | config)))
        return engines[-1]

    return make


def graphs_of(engine: Engine) -> StepGraphs:
    graphs = engine._loop.executor.runner._graphs
    assert graphs is not None
    return graphs


def replays_of(engine: Engine) -> int:
    recorder = graphs_of(engine)._recorder
    assert isinstance(recorder, TapeRecorder)
    return recorder.replays


def random_prompts(rng: random.Random, count: int, longest: int) -> list[list[int]]:
    head = [rng.randrange(3, 128) for _ in range(longest)]
    return [
        head[: rng.randrange(longest)] + [rng.randrange(3, 128) for _ in range(rng.randrange(1, 30))]
        for _ in range(count)
    ]


def run_staggered(engine: Engine, seed: int) -> list[GenerationResult]:
    """Requests of many lengths that enter while others run and leave at different times."""
    rng = random.Random(seed)
    handles = []
    for prompt in random_prompts(rng, 14, 90):
        handles.append(engine.submit(prompt, SamplingParams(max_tokens=rng.randrange(1, 25))))
        if rng.random() < 0.4:
            handles[rng.randrange(len(handles))].result(timeout=60)
    return [handle.result(timeout=60) for handle in handles]


@pytest.mark.parametrize(("name", "max_running"), [("llama", 5), ("mistral-window", 9), ("qwen3", 3)])
def test_tokens_equal_those_of_eager_steps_as_requests_come_and_go(
    name: str, max_running: int, make_recorded: Callable[..., Engine]
) -> None:
    eager = run_staggered(make_recorded(name, recorded=False, max_running=max_running), 1)
    engine = make_recorded(name, max_running=max_running)
    recorded = run_staggered(engine, 1)
    assert [r.token_ids for r in recorded] == [r.token_ids for r in eager]
    assert len(graphs_of(engine)) >= 2
    assert replays_of(engine) > 20


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9])
def test_batches_on_both_sides_of_a_size_give_the_same_tokens(
    count: int, make_recorded: Callable[..., Engine]
) -> None:
    batch = random_prompts(random.Random(count), count, 40)
    params = SamplingParams(max_tokens=6, ignore_eos=True)
    eager = make_recorded(recorded=False, max_running=9).generate(batch, params)
    engine = make_recorded(max_running=9)
    assert [r.token_ids for r in engine.generate(batch, params)] == [r.token_ids for r in eager]
    assert replays_of(engine) >= 4


def test_sampled_tokens_logprobs_and_forks_go_through_recorded_steps(
    make_recorded: Callable[..., Engine],
) -> None:
    batch = random_prompts(random.Random(7), 3, 60)
    params = SamplingParams(max_tokens=8, n=2, temperature=0.8, seed=5, logprobs=2, ignore_eos=True)
    eager = make_recorded(recorded=False).generate(batch, params)
    engine = make_recorded()
    for ours, theirs in zip(engine.generate(batch, params), eager, strict=True):
        assert [c.token_ids for c in ours.completions] == [c.token_ids for c in theirs.completions]
    assert replays_of(engine) > 0


def test_preempted_requests_resume_with_the_same_tokens(make_recorded: Callable[..., Engine]) -> None:
    rng = random.Random(2)
    batch = [[rng.randrange(3, 128) for _ in range(40)] for _ in range(6)]
    params = SamplingParams(max_tokens=60, ignore_eos=True)
    eager = make_recorded(recorded=False).generate(batch, params)
    tight = make_recorded(cache_tokens=256)
    assert [r.token_ids for r in tight.generate(batch, params)] == [r.token_ids for r in eager]
    assert tight.stats().preemptions > 0


def test_an_abort_in_flight_leaves_the_others_as_they_are(make_recorded: Callable[..., Engine]) -> None:
    batch = random_prompts(random.Random(4), 4, 50)
    params = SamplingParams(max_tokens=40, ignore_eos=True)
    eager = make_recorded(recorded=False).generate(batch, params)
    engine = make_recorded()
    handles = [engine.submit(prompt, params) for prompt in batch]
    while engine.stats().decode_tokens < 20:
        time.sleep(0.001)
    handles[1].abort()
    aborted = handles[1].result(timeout=30).token_ids
    assert aborted == eager[1].token_ids[: len(aborted)]
    for place in (0, 2, 3):
        assert handles[place].result(timeout=30).token_ids == eager[place].token_ids


def make_runner(recorder: Callable[[GatherBackend], Recorder] | None) -> ModelRunner:
    loaded = tiny_models.tiny("llama")
    pool = PagedPool(KVLayout.of(loaded.model.config, 16, loaded.dtype), 64, CPU)
    backend = GatherBackend(pool)
    return ModelRunner(
        loaded, pool, backend, recorder=None if recorder is None else recorder(backend), max_lines=4
    )


def test_padded_lines_write_nowhere() -> None:
    runner = make_runner(RerunRecorder)
    parts = [SequenceRows([5], 3, [7], 1), SequenceRows([6], 0, [9], 1), SequenceRows([7], 17, [2, 4], 1)]
    runner._pool.groups[0].keys.fill_(1.0)
    runner.forward(parts)
    written = (runner._pool.keys[0] != 1.0).any(-1).any(-1).nonzero().tolist()
    assert sorted(map(tuple, written)) == [(4, 1), (7, 3), (9, 0)]


def test_a_step_that_is_not_all_decodes_or_too_large_runs_eagerly() -> None:
    runner = make_runner(RerunRecorder)
    assert runner._graphs is not None
    runner.forward([SequenceRows([5, 6], 0, [7], 1), SequenceRows([6], 0, [9], 1)])
    runner.forward([SequenceRows([5], 0, [7], 0)])
    runner.forward([SequenceRows([5], 0, [block], 1) for block in range(5)])
    assert len(runner._graphs) == 0
    runner.forward([SequenceRows([5], 0, [block], 1) for block in range(4)])
    assert len(runner._graphs) == 1


def test_a_value_that_bypasses_the_buffers_is_found_out() -> None:
    """The stand-in itself: a backend that keeps a fresh tensor, as an eager one may, gives wrong answers."""

    class Bypassing(GatherBackend):
        def begin(self, batch: StepBatch) -> None:
            super().begin(batch)
            self._positions = self._positions.clone()

    loaded = tiny_models.tiny("llama")
    pool = PagedPool(KVLayout.of(loaded.model.config, 16, loaded.dtype), 64, CPU)
    steps = [[SequenceRows([5 + place], place, [7], 1)] for place in range(3)]
    expected = [make_runner(None).forward(step) for step in steps]
    backend = Bypassing(pool)
    runner = ModelRunner(loaded, pool, backend, recorder=RerunRecorder(backend), max_lines=4)
    wrong = [runner.forward(step).clone() for step in steps]
    assert not torch.allclose(wrong[2], expected[2], atol=1e-3)


def test_what_cannot_be_recorded_is_warned_of_once_and_runs_eagerly() -> None:
    class Refusing:
        def record(self, compute: Callable[[], None]) -> Callable[[], None]:
            compute()
            raise RuntimeError("operation not permitted when stream is capturing")

    runner = make_runner(lambda _backend: Refusing())
    part = [SequenceRows([5], 0, [7], 1)]
    with pytest.warns(UserWarning, match="not permitted"):
        logits = runner.forward(part)
    assert torch.equal(logits, make_runner(None).forward(part))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runner.forward(part)


def test_tokens_of_recorded_triton_kernels_equal_those_of_torch(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = [[3, 5, 7, 9, 11], [4, 6, 8], [9, 8, 7]]
    params = SamplingParams(max_tokens=3, ignore_eos=True)
    eager = make_engine(backend="torch").generate(batch, params)
    recorders: list[RerunRecorder] = []

    def backend(pool: PagedPool, name: str) -> object:
        made = make_backend(pool, name)
        recorders.append(RerunRecorder(made))
        return made

    monkeypatch.setattr("radixcache.engine.engine.make_backend", backend)
    monkeypatch.setattr("radixcache.engine.engine._recorder", lambda *_: recorders[-1])
    engine = make_engine(backend="triton")
    assert [r.token_ids for r in engine.generate(batch, params)] == [r.token_ids for r in eager]
    assert recorders[-1].replays >= 2


def test_sizes_and_widths_cover_every_step() -> None:
    assert sizes_up_to(64) == (1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64)
    assert sizes_up_to(5) == (1, 2, 4, 5)
    assert sizes_up_to(1) == (1,)
    for blocks in range(1, 600):
        width = width_for(blocks, 16, 600)
        assert blocks <= width <= 600
    assert len({width_for(blocks, 16, 10**6) for blocks in range(1, 4097)}) == 4


def test_a_buffer_keeps_its_shape_and_its_place() -> None:
    buffers = StaticBuffers(2, 4, CPU)
    array = np.arange(2)
    first = buffers.put("a", array)
    array[:] = 9
    assert first.tolist() == [0, 1]
    assert buffers.put("a", np.arange(2) + 5) is first
    assert first.tolist() == [5, 6]
    with pytest.raises(ValueError, match="a of a recorded step"):
        buffers.put("a", np.arange(3))
