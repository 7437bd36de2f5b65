"""Whatever requests come, fork, fail, are preempted, evicted and aborted: every logit is that of a lone miss.

The step loop is driven over a small pool whose free blocks are full of NaN. A shadow of the pool holds which
token each slot is of, so that every part of every step is known as a sequence of tokens, and its logits are
compared, bit for bit, with those of the same tokens computed alone and at once on a pool of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import hypothesis.strategies as st
import torch
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from torch import Tensor

from radixcache import EngineConfig, PrefixCache, SamplingParams
from radixcache.cache.blocks import block_ids
from radixcache.cache.lease import BlockCopy
from radixcache.engine.backends.torch.backend import TorchBackend
from radixcache.engine.handle import RequestHandle
from radixcache.engine.local_executor import LocalExecutor
from radixcache.engine.loop import StepLoop
from radixcache.engine.request import Request
from radixcache.engine.runner import ModelRunner
from radixcache.engine.step import SequenceRows
from radixcache.kv.layout import KVLayout
from radixcache.kv.pool import PagedPool
from radixcache.models import LoadedModel
from radixcache.tokens import pack
from tests import tiny_models

BLOCK_SIZE = 8
LONGEST = 160
HEADS = [[3 + (7 * head + token * token) % 120 for token in range(90)] for head in range(3)]


class NoOwner:
    """Handles here are ended by the loop alone."""

    def abort(self, handle: RequestHandle) -> None: ...

    def abandon(self, handle: RequestHandle, when_done: Any = None) -> None: ...

    def left_queue(self) -> None: ...

    def run_callback(self, call: Callable[[], None]) -> None: ...

    def check_process(self) -> None: ...

    def check_waiting(self) -> None: ...


def make_runner(model: LoadedModel, num_blocks: int) -> ModelRunner:
    layout = KVLayout.of(model.model.config, BLOCK_SIZE, model.dtype)
    pool = PagedPool(layout, num_blocks, torch.device("cpu"))
    return ModelRunner(model, pool, TorchBackend(pool))


class Lone:
    """Logits of sequences that are computed alone and at once."""

    def __init__(self, model: LoadedModel) -> None:
        self._runner = make_runner(model, LONGEST // BLOCK_SIZE + 1)
        self._known: dict[tuple[int, ...], Tensor] = {}

    def logits(self, tokens: Sequence[int]) -> Tensor:
        key = tuple(tokens)
        if key not in self._known:
            table = list(range(-(-len(key) // BLOCK_SIZE)))
            self._known[key] = self._runner.forward([SequenceRows(key, 0, table, len(key))]).clone()
        return self._known[key]


class CheckedRunner:
    """A runner whose every logit is compared with those of the same tokens alone."""

    def __init__(self, runner: ModelRunner, lone: Lone, num_blocks: int) -> None:
        self._runner = runner
        self._lone = lone
        self._shadow: list[list[int | None]] = [[None] * BLOCK_SIZE for _ in range(num_blocks)]
        self.fail_next = False
        self.compared = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def prepare(self, fresh_blocks: Sequence[int], copies: Sequence[BlockCopy]) -> None:
        self._runner.prepare(fresh_blocks, copies)
        for block in fresh_blocks:
            self._shadow[block] = [None] * BLOCK_SIZE
        for source, target, count in copies:
            self._shadow[target][:count] = self._shadow[source][:count]

    def forward(self, sequences: Sequence[SequenceRows]) -> Tensor:
        if self.fail_next:
            self.fail_next = False
            raise RuntimeError("injected")
        logits = self._runner.forward(sequences)
        first = 0
        for tokens, start, table, keep in sequences:
            for position, token in enumerate(tokens, start):
                self._shadow[table[position // BLOCK_SIZE]][position % BLOCK_SIZE] = int(token)
            if keep:
                whole = [
                    self._shadow[table[position // BLOCK_SIZE]][position % BLOCK_SIZE]
                    for position in range(start + len(tokens))
                ]
                assert None not in whole
                expected = self._lone.logits([token for token in whole if token is not None])[-keep:]
                assert torch.equal(logits[first : first + keep], expected)
                self.compared += keep
            first += keep
        return logits


class EngineMachine(RuleBasedStateMachine):
    """Requests over a pool that holds a few of them."""

    model_name, dtype = "llama", torch.float32
    num_blocks, max_running = 24, 6
    lone: Lone | None = None

    def __init__(self) -> None:
        super().__init__()
        model = tiny_models.tiny(self.model_name, dtype=self.dtype)
        kind = type(self)
        if kind.lone is None:
            kind.lone = Lone(model)
        self.model = model
        self.cache = PrefixCache(self.num_blocks, BLOCK_SIZE)
        inner = make_runner(model, self.num_blocks)
        assert inner.batch_invariant, inner.variance
        self.pool = inner._pool
        self.runner = CheckedRunner(inner, kind.lone, self.num_blocks)
        config = EngineConfig(block_size=BLOCK_SIZE, max_batch_tokens=40, max_running=self.max_running)
        executor = LocalExecutor(self.runner)  # type: ignore[arg-type]
        self.loop = StepLoop(self.cache, executor, model, config)
        self.requests: list[Request] = []
        self.poison()

    def poison(self) -> None:
        """What nobody holds may be anything."""
        allocator = self.cache.store.allocator
        free = [*block_ids(allocator._free), *range(allocator._next, allocator.num_blocks)]
        assert len(free) == allocator.num_free
        index = torch.tensor(free, dtype=torch.int64)
        for storage in self.pool.storages:
            storage.index_fill_(1, index, torch.nan)

    @rule(
        head=st.integers(0, len(HEADS) - 1),
        shared=st.integers(1, 70),
        own=st.lists(st.integers(3, 120), max_size=12),
        max_tokens=st.integers(1, 24),
        n=st.sampled_from([1, 1, 1, 2, 3]),
        temperature=st.sampled_from([0.0, 1.0]),
        prompt_logprobs=st.sampled_from([None, None, None, 1]),
        namespace=st.sampled_from(["", "", "other"]),
    )
    def submit(
        self,
        head: int,
        shared: int,
        own: list[int],
        max_tokens: int,
        n: int,
        temperature: float,
        prompt_logprobs: int | None,
        namespace: str,
    ) -> None:
        params = SamplingParams(
            max_tokens=max_tokens,
            n=n,
            temperature=temperature,
            seed=len(self.requests),
            prompt_logprobs=prompt_logprobs,
            ignore_eos=True,
        )
        prompt = (*HEADS[head][:shared], *own)
        handle = RequestHandle(f"request-{len(self.requests)}", NoOwner())
        request = Request(handle, pack(prompt), params, namespace)
        request.new_sequence(self.model)
        self.loop.add(request)
        self.requests.append(request)

    @rule(count=st.integers(1, 12))
    def steps(self, count: int) -> None:
        for _ in range(count):
            if self.loop.has_work:
                self.loop.step()
                self.poison()

    @precondition(lambda self: self.requests)
    @rule(index=st.integers(0, 20))
    def abort(self, index: int) -> None:
        self.loop.abort(self.requests[index % len(self.requests)].handle)
        self.poison()

    @rule(count=st.integers(1, 24))
    def evict(self, count: int) -> None:
        self.cache.evict(count)
        self.poison()

    @rule()
    def fail_a_pass(self) -> None:
        self.runner.fail_next = True

    def teardown(self) -> None:
        self.runner.fail_next = False
        for _ in range(3000):
            if not self.loop.has_work:
                break
            self.loop.step()
            self.poison()
        assert not self.loop.has_work
        for request in self.requests:
            assert request.handle.done
        stats = self.cache.stats()
        assert stats.leases == 0
        assert stats.free_blocks + stats.evictable_blocks == stats.num_blocks


class ManyRunning(EngineMachine):
    num_blocks, max_running = 60, 20


class HalfPrecision(EngineMachine):
    model_name, dtype = "gemma2-softcap", torch.bfloat16


class Experts(EngineMachine):
    model_name = "qwen2-moe"


_settings = settings(
    max_examples=8, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
for _machine in (EngineMachine, ManyRunning, HalfPrecision, Experts):
    _machine.TestCase.settings = _settings

TestEngine = EngineMachine.TestCase
TestManyRunning = ManyRunning.TestCase
TestHalfPrecision = HalfPrecision.TestCase
TestExperts = Experts.TestCase
