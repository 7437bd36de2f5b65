"""Host time of a step: scheduling, control plane, step input, bookkeeping of samples and handing out.

The runner is a stand-in that gives the same logits at once: what is left is what a device waits for
between two steps, or hides.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from statistics import median
from time import thread_time
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor

from benchmarks.common import arguments, random_ids, write_results
from radixcache import EngineConfig, PrefixCache, SamplingParams
from radixcache.engine.handle import RequestHandle
from radixcache.engine.local_executor import LocalExecutor
from radixcache.engine.loop import StepLoop
from radixcache.engine.request import Request
from radixcache.engine.runner import ModelRunner
from radixcache.engine.step import SequenceRows, StepBatch
from radixcache.models import LoadedModel
from radixcache.tokens import pack

VOCABULARY = 512
BLOCK_SIZE = 16


class NoOwner:
    """Handles here are ended by the loop alone."""

    def abort(self, handle: RequestHandle) -> None: ...

    def abandon(self, handle: RequestHandle, when_done: Any = None) -> None: ...

    def left_queue(self) -> None: ...

    def run_callback(self, call: Callable[[], None]) -> None: ...

    def check_process(self) -> None: ...

    def check_waiting(self) -> None: ...


class StandIn:
    """A runner that flattens each step, as every backend needs it, and computes nothing."""

    asynchronous = True
    batch_invariant = True
    variance = ""

    def __init__(self) -> None:
        self._logits = torch.randn(4096, VOCABULARY, generator=torch.Generator().manual_seed(0))

    def prepare(self, fresh_blocks: Sequence[int], copies: Sequence[Any]) -> None:
        """Nothing to clear."""

    def forward(self, sequences: Sequence[SequenceRows]) -> Tensor:
        """The first rows of random logits."""
        batch = StepBatch(sequences, BLOCK_SIZE, device=torch.device("cpu"))
        return self._logits[: batch.num_kept]

    def close(self) -> None:
        """Nothing to free."""


def stand_in_model() -> LoadedModel:
    """What the loop reads of a model."""
    config = SimpleNamespace(get_text_config=lambda **_: SimpleNamespace(vocab_size=VOCABULARY))
    return cast(
        LoadedModel,
        SimpleNamespace(
            model=SimpleNamespace(config=config),
            tokenizer=SimpleNamespace(decode=lambda ids, **_: "x" * len(ids)),
            eos_token_ids=frozenset(),
        ),
    )


def measure(options: argparse.Namespace, *, cache: bool) -> dict[str, float]:
    """Milliseconds of this thread's CPU time: median decode step, prefill step, all submissions."""
    source = random.Random(options.seed)
    shared = random_ids(source, options.tokens // 2, VOCABULARY)
    config = EngineConfig(
        cache=cache, block_size=BLOCK_SIZE, max_batch_tokens=2048, max_running=options.sequences
    )
    most = options.tokens * options.sequences // config.max_batch_tokens + options.steps + 64
    longest = options.tokens + most
    blocks = (options.sequences + 1) * (longest // BLOCK_SIZE + 2)
    loop = StepLoop(
        PrefixCache(blocks, BLOCK_SIZE, enabled=cache),
        LocalExecutor(cast(ModelRunner, StandIn())),
        stand_in_model(),
        config,
    )
    prompts = [
        shared + random_ids(source, options.tokens - len(shared), VOCABULARY)
        for _ in range(options.sequences)
    ]
    params = SamplingParams(max_tokens=most, ignore_eos=True)
    requests = []
    begin = thread_time()
    for number, prompt in enumerate(prompts):
        request = Request(RequestHandle(f"request-{number}", NoOwner()), pack(prompt), params, "")
        request.new_sequence(stand_in_model())
        loop.add(request)
        requests.append(request)
    submitted = thread_time() - begin
    prefill = []
    while any(request.first_token_at is None for request in requests):
        begin = thread_time()
        loop.step()
        prefill.append(thread_time() - begin)
    decode = []
    for _ in range(options.steps):
        begin = thread_time()
        loop.step()
        decode.append(thread_time() - begin)
    loop.abort_all()
    return {
        "submit_ms": 1000 * submitted / options.sequences,
        "prefill_step_ms": 1000 * median(prefill),
        "decode_step_ms": 1000 * median(decode),
        "prefill_s": sum(prefill),
    }


def main() -> None:
    """Measure with the cache on and off in turn, and print the medians of the rounds."""
    parser = arguments("step_host", __doc__, model=None)
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=8000, help="tokens of each prompt, half of them shared")
    parser.add_argument("--steps", type=int, default=200, help="decode steps to measure")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rounds: dict[str, list[dict[str, float]]] = {"on": [], "off": []}
    for _ in range(options.rounds):
        for name, taken in rounds.items():
            taken.append(measure(options, cache=name == "on"))
    found = {
        name: {key: median(one[key] for one in taken) for key in taken[0]} for name, taken in rounds.items()
    }
    for name, figures in found.items():
        print(f"cache {name:3}  " + "  ".join(f"{key} {value:.3f}" for key, value in figures.items()))
    settings = {key: getattr(options, key) for key in ("sequences", "tokens", "steps", "rounds")}
    write_results(options.out, {**settings, "cache": found})


if __name__ == "__main__":
    main()
