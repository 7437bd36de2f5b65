"""A step asks the device nothing: no operation whose result the host must wait for."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from radixcache import SamplingParams
from radixcache.engine.runner import ModelRunner
from radixcache.engine.staging import to_device, to_host
from radixcache.engine.step import SequenceRows
from radixcache.kv.layout import KVLayout
from radixcache.kv.pool import PagedPool
from tests import tiny_models
from tests.engine.conftest import MakeEngine
from tests.engine.cuda_stand_ins import GatherBackend

ASKING = ("item", "_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "unique")


class Asked(TorchDispatchMode):
    """Collects the operations that would wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.partition(".")[0]
        masked = name.startswith("index") and any(
            isinstance(leaf, Tensor) and leaf.dtype == torch.bool for leaf in tree_leaves(args[1:])
        )
        if name in ASKING or masked:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "name", ["llama", "mistral-window", "qwen3", "gemma2-softcap", "gpt2-mha", "stablelm"]
)
def test_a_forward_pass_asks_the_device_nothing(name: str) -> None:
    loaded = tiny_models.tiny(name)
    pool = PagedPool(KVLayout.of(loaded.model.config, 16, loaded.dtype), 64, torch.device("cpu"))
    runner = ModelRunner(loaded, pool, GatherBackend(pool))
    parts = [SequenceRows([5], 3, [7], 1), SequenceRows([6, 7], 0, [9], 0), SequenceRows([8], 17, [2, 4], 1)]
    with Asked() as asked:
        runner.forward(parts)
    assert asked.found == []


@pytest.mark.parametrize("ask", [lambda x: bool((x > 0).all()), lambda x: x[x > 0], lambda x: x.nonzero()])
def test_what_would_wait_is_seen(ask: Any) -> None:
    with Asked() as asked, torch.inference_mode():
        ask(torch.arange(4))
    assert asked.found


@contextmanager
def forbidden_waits() -> Iterator[None]:
    with warnings.catch_warnings():
        # Setting the mode warns that it is a prototype.
        warnings.filterwarnings("ignore", "Synchronization debug mode", UserWarning)
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.parametrize("graphs", [False, True])
def test_steps_on_a_gpu_do_not_wait_for_it(graphs: bool, make_engine: MakeEngine) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    engine = make_engine(device="cuda", graphs=graphs)
    runner = engine._loop.executor.runner
    chunk = [SequenceRows(list(range(3, 40)), 0, [1, 2, 3], 1)]
    decodes = [SequenceRows([5], 37, [1, 2, 3], 1), SequenceRows([6], 0, [4], 1)]
    for step in (chunk, decodes):
        runner.prepare([5, 6], [])
        runner.forward(step)
    with forbidden_waits():
        for step in (chunk, decodes, decodes):
            runner.prepare([5, 6], [])
            runner.forward(step)
    torch.cuda.synchronize()


@pytest.mark.gpu
def test_staged_arrays_arrive_whole() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    rng = random.Random(0)
    device = torch.device("cuda")
    target = torch.zeros(1000, dtype=torch.int64, device=device)
    arrays = [
        torch.randint(0, 10**9, (1000,), generator=torch.Generator().manual_seed(rng.randrange(99))).numpy()
    ]
    for array in arrays * 50:
        shifted = array + rng.randrange(1000)
        assert to_host(to_device(shifted, device)).tolist() == shifted.tolist()
        assert to_host(to_device(shifted, device, into=target)).tolist() == shifted.tolist()


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:decode steps are not recorded")
@pytest.mark.parametrize("name", ["llama", "mistral-window", "gemma2-softcap", "gpt-oss-sinks"])
def test_tokens_on_a_gpu_are_the_same_with_graphs_and_without(name: str, make_engine: MakeEngine) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    rng = random.Random(name)
    batch = [[rng.randrange(3, 128) for _ in range(rng.randrange(5, 300))] for _ in range(11)]
    params = SamplingParams(max_tokens=30, ignore_eos=True)
    eager = make_engine(name, device="cuda", graphs=False, max_running=9).generate(batch, params)
    engine = make_engine(name, device="cuda", max_running=9)
    assert [r.token_ids for r in engine.generate(batch, params)] == [r.token_ids for r in eager]
    if name != "gpt-oss-sinks":  # whose experts are chosen on the host
        assert len(engine._loop.executor.runner._graphs or ()) > 0
