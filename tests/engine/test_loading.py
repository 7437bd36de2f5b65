"""Prefixes that come from a lower tier: others do not wait, a failed load is a shorter hit, nothing leaks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
import torch

from radixcache import EngineConfig, PrefixCache, SamplingParams
from radixcache.cache.check import check_invariants
from radixcache.cache.draining import EvictedBlocks
from radixcache.cache.loads import BlockLoad, LowerHit, LowerQuery, TierRun
from radixcache.engine.backends.torch.backend import TorchBackend
from radixcache.engine.executor import StepInput
from radixcache.engine.handle import RequestHandle
from radixcache.engine.local_executor import LocalExecutor
from radixcache.engine.loop import StepLoop
from radixcache.engine.request import Request
from radixcache.engine.runner import ModelRunner
from radixcache.engine.step import SequenceRows, StepBatch
from radixcache.kv.pool import PagedPool
from radixcache.tokens import pack
from tests import tiny_models
from tests.engine.test_engine_machine import BLOCK_SIZE, NoOwner, make_runner

NUM_BLOCKS = 40
PROMPT = [3 + 7 * token % 113 for token in range(60)]
OTHER = [100 - token for token in range(45)]


class Job:
    def __init__(self, tier: Tier, loads: Sequence[BlockLoad], done: Callable[[int], None]) -> None:
        self.tier, self.loads, self.done = tier, loads, done
        self.cancelled = self.ended = False

    def cancel(self) -> None:
        self.cancelled = True

    def end(self, succeeded: int | None = None) -> None:
        """Fill the first blocks, all by default, and say so; what fails has been written to in part."""
        count = len(self.loads) if succeeded is None else succeeded
        for load in self.loads[:count]:
            self.tier.write(load.target, self.tier.blocks[load.digest])
        for load in self.loads[count:]:
            self.tier.write(load.target, [torch.full_like(one, torch.nan) for one in self.tier.some])
        self.ended = True
        self.done(count)


class Tier:
    """A tier that holds the bytes of every block that was evicted, and loads them when told to."""

    def __init__(self) -> None:
        self.blocks: dict[bytes, list[torch.Tensor]] = {}
        self.jobs: list[Job] = []
        self.pool: PagedPool
        self.refuse = False
        self.most = 10**6
        self.hold = False
        self.held: set[int] = set()

    @property
    def some(self) -> list[torch.Tensor]:
        return next(iter(self.blocks.values()))

    def write(self, block: int, contents: list[torch.Tensor]) -> None:
        for storage, one in zip(self.pool.storages, contents, strict=True):
            storage[:, block] = one

    def offer(self, evicted: EvictedBlocks, *, urgent: bool) -> Iterable[int]:
        for digest, block in zip(evicted.digests, evicted.blocks, strict=True):
            self.blocks[digest] = [storage[:, block].clone() for storage in self.pool.storages]
        if urgent or not self.hold:
            return ()
        self.held.update(evicted.blocks)
        return evicted.blocks

    def reclaim(self, num_blocks: int) -> Iterable[int]:
        given, self.held = (set(), self.held) if self.hold else (self.held, set())
        return given

    def match(self, query: LowerQuery) -> Iterable[TierRun]:
        for digest in query.digests:
            if digest not in self.blocks:
                return
            yield TierRun("memory", query.block_size)

    def worth(self, hit: LowerHit) -> int:
        return min(hit.num_tokens, self.most)

    def start(self, loads: Sequence[BlockLoad], done: Callable[[int], None]) -> Job:
        if self.refuse:
            raise OSError("out of luck")
        self.jobs.append(Job(self, loads, done))
        return self.jobs[-1]

    def close(self) -> None:
        for job in self.jobs:
            if not job.ended:
                job.end(0)


class Stage:
    """A step loop over a tiny model with a tier below."""

    def __init__(self, **config: Any) -> None:
        self.tier = Tier()
        self.model = tiny_models.tiny("llama")
        runner = make_runner(self.model, NUM_BLOCKS)
        self.tier.pool = runner._pool
        self.cache = PrefixCache(NUM_BLOCKS, BLOCK_SIZE, sink=self.tier, lower=self.tier)
        settings = {"block_size": BLOCK_SIZE, "max_batch_tokens": 40, "max_running": 4} | config
        self.loop = StepLoop(
            self.cache,
            LocalExecutor(runner),
            self.model,
            EngineConfig(**settings),
            loader=self.tier,
        )

    def submit(self, prompt: list[int], max_tokens: int = 8, **options: Any) -> Request:
        params = SamplingParams(max_tokens=max_tokens, ignore_eos=True)
        request = Request(RequestHandle("request", NoOwner()), pack(prompt), params, **options)
        request.new_sequence(self.model)
        self.loop.add(request)
        return request

    def steps(self, count: int = 1000) -> None:
        for _ in range(count):
            if not self.loop.has_work:
                break
            self.loop.step()
            check_invariants(self.cache)
            if self.loop.stalled:
                break

    def run(self, prompt: list[int]) -> Any:
        request = self.submit(prompt)
        self.steps()
        return request.handle.result(0)

    def lower(self, prompt: list[int]) -> Any:
        """Compute a prompt and have it evicted into the tier; what came of it."""
        result = self.run(prompt)
        self.cache.evict(NUM_BLOCKS)
        assert self.cache.match(prompt) == 0
        return result

    def idle(self) -> None:
        self.steps()
        stats = self.cache.stats()
        assert not self.loop.has_work
        assert stats.leases == stats.protected_blocks == stats.draining_blocks == 0


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_loaded_prefix_gives_what_a_computed_one_gives(stage: Stage) -> None:
    expected = stage.lower(PROMPT)
    request = stage.submit(PROMPT)
    stage.steps()
    assert stage.loop.stats().loading == 1
    assert not request.handle.done
    stage.tier.jobs[0].end()
    stage.idle()
    result = request.handle.result(0)
    assert result.token_ids == expected.token_ids
    assert result.cached_tokens == len(PROMPT) // BLOCK_SIZE * BLOCK_SIZE
    assert request.handle.usage is not None
    assert request.handle.usage.cached_tokens == result.cached_tokens


def test_a_request_whose_prefix_loads_keeps_nobody_waiting() -> None:
    stage = Stage(max_running=1)
    expected = [stage.lower(PROMPT), stage.lower(OTHER)]
    loading = stage.submit(PROMPT)
    stage.steps()
    others = [stage.submit([5, 6, 7 + at]) for at in range(3)]
    stage.steps()
    assert all(other.handle.done for other in others)
    assert not loading.handle.done
    second = stage.submit(OTHER)
    stage.steps()
    for job in stage.tier.jobs:
        job.end()
    stage.idle()
    assert [one.handle.result(0).token_ids for one in (loading, second)] == [
        one.token_ids for one in expected
    ]


@pytest.mark.parametrize("succeeded", [0, 1, 5])
def test_a_load_that_fails_is_a_shorter_hit(succeeded: int, stage: Stage) -> None:
    expected = stage.lower(PROMPT)
    request = stage.submit(PROMPT)
    stage.steps()
    stage.tier.jobs[0].end(succeeded)
    stage.idle()
    result = request.handle.result(0)
    assert result.token_ids == expected.token_ids
    assert result.cached_tokens == succeeded * BLOCK_SIZE
    assert sum(result.misses.values()) == len(PROMPT) - result.cached_tokens
    assert result.misses["load_failed"] > 0


def test_a_loader_that_does_not_start_costs_the_hit_alone(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    expected = stage.lower(PROMPT)
    stage.tier.refuse = True
    with caplog.at_level(logging.ERROR):
        result = stage.run(PROMPT)
    assert result.token_ids == expected.token_ids
    assert result.cached_tokens == 0
    assert "computes what could not be loaded" in caplog.text
    stage.idle()


def test_what_is_not_worth_it_is_not_loaded(stage: Stage) -> None:
    expected = stage.lower(PROMPT)
    stage.tier.most = 0
    assert stage.run(PROMPT).token_ids == expected.token_ids
    assert stage.tier.jobs == []


@pytest.mark.parametrize("end", ["abort", "timeout", "fail"])
@pytest.mark.parametrize("late", [True, False])
def test_a_request_that_ends_while_its_prefix_loads_leaks_nothing(end: str, late: bool, stage: Stage) -> None:
    expected = stage.lower(PROMPT)
    request = stage.submit(PROMPT, timeout=0.001 if end == "timeout" else None)
    if end == "timeout":
        request.submitted_at += 10**6  # not before it loads
    stage.loop.step()
    job = stage.tier.jobs[0]
    if not late:
        job.end()
    if end == "abort":
        stage.loop.abort(request.handle)
    elif end == "fail":
        stage.loop.fail(request.handle, RuntimeError("out of luck"))
    else:
        stage.loop._deadlines.clear()
        stage.loop._deadlines.add(0.0, request.handle, [request.handle])
        stage.loop.step()
    assert request.handle.done
    if end == "timeout":
        assert request.handle.result(0).finish_reason == "timeout"
    if late:
        assert job.cancelled
        assert stage.cache.stats().draining_blocks == len(job.loads)
        job.end(2)
    stage.submit([5, 6, 7])
    stage.idle()
    again = stage.submit(PROMPT)
    stage.steps()
    for job in stage.tier.jobs[1:]:
        job.end()
    stage.idle()
    assert again.handle.result(0).token_ids == expected.token_ids


def test_a_loop_that_closes_waits_for_the_loader(stage: Stage) -> None:
    stage.lower(PROMPT)
    stage.submit(PROMPT)
    stage.loop.step()
    stage.loop.close()
    assert stage.tier.jobs[0].ended
    assert stage.cache.stats().leases == 0


def test_an_error_of_the_control_plane_begins_loading_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = stage.lower(PROMPT)
    request = stage.submit(PROMPT)
    stage.loop.step()
    stage.loop._begin_again(RuntimeError("out of luck"))
    stage.tier.jobs[0].end()
    stage.steps()
    for job in stage.tier.jobs[1:]:
        job.end()
    stage.idle()
    assert request.handle.result(0).token_ids == expected.token_ids


@pytest.mark.parametrize("succeeded", [0, 2, 5])
def test_the_backend_is_told_of_loaded_blocks_before_they_are_read(
    succeeded: int, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = stage.lower(PROMPT)
    heard: list[str | set[int]] = []
    renewed, begin = TorchBackend.renewed, TorchBackend.begin

    def hear(self: TorchBackend, blocks: Iterable[int]) -> None:
        heard.append(set(blocks))
        renewed(self, blocks)

    def step(self: TorchBackend, batch: StepBatch) -> None:
        heard.append("step")
        begin(self, batch)

    request = stage.submit(PROMPT)
    stage.steps()
    monkeypatch.setattr(TorchBackend, "renewed", hear)
    monkeypatch.setattr(TorchBackend, "begin", step)
    job = stage.tier.jobs[0]
    job.end(succeeded)
    stage.idle()
    told = [blocks for blocks in heard[: heard.index("step")] if isinstance(blocks, set)]
    assert set[int]().union(*told) >= {load.target for load in job.loads}
    if succeeded:
        assert told[0] == {load.target for load in job.loads[:succeeded]}
    assert request.handle.result(0).token_ids == expected.token_ids


@pytest.mark.parametrize("told", [True, False])
def test_splits_kept_of_a_block_are_used_until_the_executor_is_told_that_it_was_loaded(told: bool) -> None:
    runner = make_runner(tiny_models.tiny("llama"), NUM_BLOCKS)
    executor = LocalExecutor(runner)
    table = [4, 9]  # not next to each other, so that what is read of them is kept

    def logits(position: int) -> torch.Tensor:
        return runner.forward([SequenceRows([5], position, table, 1)]).clone()

    runner.forward([SequenceRows(list(range(20, 30)), 0, table, 1)])
    for position in (10, 11, 12):
        logits(position)
    for storage in runner._pool.storages:
        storage[:, 4] = torch.randn_like(storage[:, 4])
    if told:
        executor.begin(StepInput((), loaded=[4])).result()
    after = logits(13)
    runner._backend.renewed(range(NUM_BLOCKS))
    assert torch.equal(logits(13), after) == told


def test_blocks_that_the_executor_cannot_be_told_of_are_computed_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = stage.lower(PROMPT)
    request = stage.submit(PROMPT)
    stage.steps()

    def broken(self: ModelRunner, blocks: Sequence[int]) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(ModelRunner, "renewed", broken)
    stage.tier.jobs[0].end()
    with caplog.at_level(logging.ERROR):
        stage.idle()
    result = request.handle.result(0)
    assert (result.token_ids, result.cached_tokens) == (expected.token_ids, 0)
    assert "the executor could not be told" in caplog.text


def drained(stage: Stage) -> list[int]:
    """Have almost every block of the pool held by the sink; the ids of these."""
    stage.run(PROMPT)
    rest = [[90 + (at * at + row) % 30 for at in range(100)] for row in range(2)]
    for prompt in rest:
        stage.run(prompt)
    stage.tier.hold = True
    stage.cache.evict(NUM_BLOCKS)
    assert stage.cache.stats().draining_blocks == len(stage.tier.held) > NUM_BLOCKS // 2
    return sorted(stage.tier.held)


@pytest.mark.parametrize("end", ["drained", "reclaimed"])
def test_a_request_waits_for_blocks_that_drain_though_nothing_runs(end: str, stage: Stage) -> None:
    held = drained(stage)
    request = stage.submit([7 + at % 90 for at in range(NUM_BLOCKS * BLOCK_SIZE - 40)])
    for _ in range(5):
        stage.loop.step()
        assert stage.loop.stalled
        assert not request.handle.done
    if end == "drained":
        stage.cache.drained(held)
    stage.tier.hold = False
    stage.idle()
    assert request.handle.result(0).finish_reason == "length"


def test_a_sequence_that_grows_into_blocks_that_drain_waits_for_them(stage: Stage) -> None:
    held = drained(stage)
    free = stage.cache.num_free_blocks * BLOCK_SIZE
    request = stage.submit([7 + at % 90 for at in range(free - 10)], 30)
    stage.steps()
    assert stage.loop.stalled
    assert not request.handle.done
    stage.cache.drained(held)
    stage.idle()
    result = request.handle.result(0)
    alone = Stage().run([7 + at % 90 for at in range(free - 10)])
    assert len(result.token_ids) == 30
    assert result.token_ids[: len(alone.token_ids)] == alone.token_ids


def test_a_request_that_waits_for_blocks_that_never_drain_ends_in_time(stage: Stage) -> None:
    drained(stage)
    waiting = stage.submit([7 + at % 90 for at in range(NUM_BLOCKS * BLOCK_SIZE - 40)], timeout=0.05)
    aborted = stage.submit([8 + at % 90 for at in range(NUM_BLOCKS * BLOCK_SIZE - 40)])
    stage.loop.step()
    time.sleep(0.06)
    stage.loop.step()
    assert waiting.handle.result(0).finish_reason == "timeout"
    stage.loop.abort(aborted.handle)
    assert not stage.loop.has_work
