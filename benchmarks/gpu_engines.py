"""Our engine against transformers' continuous batching on a GPU: a Llama shape with random weights.

Two workloads: `shared`, groups of requests with a long common prefix, and `decode`, many requests with
nothing in common and long answers. Both engines keep the same number of requests in flight and cache
prefixes; each first answers other prompts of the same lengths, which compiles and records what it needs.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from statistics import median
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from benchmarks.common import RESULTS, arguments, random_ids, write_results
from benchmarks.random_llama import SHAPES, device_label, random_model
from radixcache.engine import Engine, EngineConfig, SamplingParams
from radixcache.engine.handle import RequestHandle
from radixcache.models import LoadedModel

Prompt = list[int]
Outputs = list[tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Workload:
    """`groups` x `requests` prompts of `prefix` tokens of the group's and `tail` of their own."""

    groups: int
    requests: int
    prefix: int
    tail: int
    max_tokens: int
    concurrency: int

    def prompts(self, source: random.Random, vocabulary: int) -> list[Prompt]:
        """Fresh random prompts, the groups taking turns."""
        prefixes = [random_ids(source, self.prefix, vocabulary) for _ in range(self.groups)]
        return [
            prefixes[index % self.groups] + random_ids(source, self.tail, vocabulary)
            for index in range(self.groups * self.requests)
        ]


WORKLOADS = {
    "shared": Workload(groups=8, requests=12, prefix=4096, tail=128, max_tokens=64, concurrency=32),
    "decode": Workload(groups=96, requests=1, prefix=0, tail=512, max_tokens=256, concurrency=64),
}
TINY_WORKLOADS = {
    "shared": Workload(groups=2, requests=3, prefix=64, tail=8, max_tokens=6, concurrency=3),
    "decode": Workload(groups=4, requests=1, prefix=0, tail=20, max_tokens=8, concurrency=4),
}


@dataclass(frozen=True, slots=True)
class Run:
    """One engine on one workload.

    Attributes:
        wall_s: from the first request to the last answer; median of the rounds.
        new_tokens_per_s: all requests' new tokens over that.
        ttft_s: median time to first token, in the last round.
    """

    wall_s: float
    new_tokens_per_s: float
    ttft_s: float


Answer = Callable[[list[Prompt], Workload], tuple[list[float], Outputs]]


def main() -> None:
    """Measure, print and write; without a CUDA device, say so and do nothing."""
    parser = arguments("gpu_engines", __doc__, model=None)
    parser.set_defaults(out=None)
    parser.add_argument("--shape", choices=tuple(SHAPES), default="8b", help="tiny is for trying it out")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try it out")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache-tokens", type=int, default=131072, help="room for keys and values")
    parser.add_argument("--max-batch-tokens", type=int, default=4096, help="token budget of a step")
    parser.add_argument("--no-graphs", action="store_true", help="our decode steps run eagerly")
    parser.add_argument(
        "--peer", action=argparse.BooleanOptionalAction, default=True, help="run transformers"
    )
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device here: nothing was measured")
        return
    torch.set_num_threads(options.threads)
    device = torch.device("cuda:0" if options.device == "cuda" else options.device)
    print(f"{device_label(device)}: llama {options.shape}, random weights, {options.dtype}")
    engines = {"radixcache": ours, "transformers": theirs}
    if not options.peer:
        del engines["transformers"]
    runs: dict[str, dict[str, Run]] = {}
    outputs: dict[str, dict[str, Outputs]] = {}
    failed: dict[str, str] = {}
    for name, make in engines.items():
        try:
            runs[name], outputs[name] = measure(name, make, options, device)
        except Exception as error:  # the other goes on
            failed[name] = f"{type(error).__name__}: {error}"
            print(f"{name}: FAILED: {failed[name]}")
    report(runs, outputs)
    path: Path | None = options.out
    if path is None and options.shape != "tiny":
        path = RESULTS / f"gpu-engines-{device_label(device).lower().replace(' ', '-')}.json"
    if path is not None:
        write_results(
            path,
            {
                "device": device_label(device),
                "cuda": torch.version.cuda,
                "shape": options.shape,
                "dtype": options.dtype,
                "workloads": {name: asdict(load) for name, load in workloads(options).items()},
                "runs": {name: {load: asdict(run) for load, run in of.items()} for name, of in runs.items()},
                "failed": failed,
            },
        )


def workloads(options: argparse.Namespace) -> dict[str, Workload]:
    """The workloads of this size of model."""
    return TINY_WORKLOADS if options.shape == "tiny" else WORKLOADS


def measure(
    name: str, make: Callable[..., Any], options: argparse.Namespace, device: torch.device
) -> tuple[dict[str, Run], dict[str, Outputs]]:
    """All workloads on one engine: a round to warm up, then the rounds that count."""
    source = random.Random(options.seed)
    torch.manual_seed(options.seed)
    vocabulary = SHAPES[options.shape][-1]
    longest = max(load.prefix + load.tail + load.max_tokens for load in workloads(options).values())
    model = random_model(options.shape, device, getattr(torch, options.dtype), longest)
    runs: dict[str, Run] = {}
    outputs: dict[str, Outputs] = {}
    for label, load in workloads(options).items():
        with make(model, load, options) as answer:
            answer(load.prompts(source, vocabulary), load)
            walls = []
            for _ in range(options.rounds):
                prompts = load.prompts(source, vocabulary)
                started = time.perf_counter()
                firsts, outputs[label] = answer(prompts, load)
                walls.append(time.perf_counter() - started)
        tokens = sum(map(len, outputs[label]))
        runs[label] = Run(median(walls), tokens / median(walls), median(firsts))
        run = runs[label]
        print(
            f"{name:14}{label:8}{run.wall_s:9.2f} s{run.new_tokens_per_s:10.0f} new tokens/s"
            f"   first token {1e3 * run.ttft_s:.0f} ms",
            flush=True,
        )
    del model
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return runs, outputs


def report(runs: dict[str, dict[str, Run]], outputs: dict[str, dict[str, Outputs]]) -> None:
    """Ours beside theirs."""
    if len(runs) < 2:
        return
    for label, run in runs["radixcache"].items():
        peer = runs["transformers"][label]
        pairs = list(zip(outputs["radixcache"][label], outputs["transformers"][label], strict=True))
        equal = sum(a == b for a, b in pairs)
        print(
            f"{label}: {peer.wall_s / run.wall_s:.2f}x as fast as transformers, first token "
            f"{peer.ttft_s / run.ttft_s:.2f}x; equal outputs {equal} of {len(pairs)}"
        )


@contextmanager
def ours(model: LoadedModel, load: Workload, options: argparse.Namespace) -> Iterator[Answer]:
    """Our engine."""
    config = EngineConfig(
        cache_tokens=options.cache_tokens,
        max_batch_tokens=options.max_batch_tokens,
        max_running=load.concurrency,
        graphs=not options.no_graphs,
    )
    params = SamplingParams(max_tokens=load.max_tokens, ignore_eos=True)
    with Engine(model, config) as engine:

        def answer(prompts: list[Prompt], load: Workload) -> tuple[list[float], Outputs]:
            engine.reset_cache()
            done: SimpleQueue[int] = SimpleQueue()
            handles: list[RequestHandle] = []

            def submit() -> None:
                place = len(handles)
                handle = engine.submit(prompts[place], params)
                handles.append(handle)
                handle.when_done(lambda _handle: done.put(place))

            for _ in prompts[: load.concurrency]:
                submit()
            for _ in prompts:
                done.get(timeout=600)
                if len(handles) < len(prompts):
                    submit()
            results = [handle.result() for handle in handles]
            return [result.ttft for result in results], [result.token_ids for result in results]

        yield answer


@contextmanager
def theirs(model: LoadedModel, load: Workload, options: argparse.Namespace) -> Iterator[Answer]:
    """transformers' continuous batching, with the attention and the batching that it chooses itself."""
    import transformers
    from transformers import GenerationConfig
    from transformers.generation.configuration_utils import ContinuousBatchingConfig

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    on_gpu = model.device.type == "cuda"
    page = 256 if on_gpu else 16
    generation = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=load.max_tokens, do_sample=False, eos_token_id=-1, pad_token_id=0, bos_token_id=0
    )
    batching = ContinuousBatchingConfig(
        page_size=page,
        num_blocks=options.cache_tokens // page,
        max_batch_tokens=options.max_batch_tokens,
        max_requests_per_batch=load.concurrency,
        allow_block_sharing=True,
        use_cuda_graph=None if on_gpu else False,
        use_async_batching=None if on_gpu else False,
    )
    batched: Any = model.model
    batched.set_attn_implementation("sdpa")
    with batched.continuous_batching_context_manager(
        generation_config=generation, continuous_batching_config=batching
    ) as manager:
        print(f"transformers' attention: {batched.config._attn_implementation}")
        rounds = iter(range(1_000_000))

        def answer(prompts: list[Prompt], load: Workload) -> tuple[list[float], Outputs]:
            label = next(rounds)
            begun: dict[str, float] = {}
            first: dict[str, float] = {}
            outputs: dict[str, tuple[int, ...]] = {}

            def submit() -> None:
                name = f"{label}-{len(begun)}"
                prompt = prompts[len(begun)]
                begun[name] = time.perf_counter()
                manager.add_request(prompt, request_id=name, max_new_tokens=load.max_tokens, streaming=True)

            for _ in prompts[: load.concurrency]:
                submit()
            while len(outputs) < len(prompts):
                got = manager.get_result(timeout=600)
                if got is None or got.error is not None:
                    raise RuntimeError("no answer in 600 s" if got is None else str(got.error))
                if got.generated_tokens:
                    first.setdefault(got.request_id, time.perf_counter())
                if got.is_finished():
                    outputs[got.request_id] = tuple(got.generated_tokens)
                    if len(begun) < len(prompts):
                        submit()
            return [first[name] - begun[name] for name in begun], [outputs[name] for name in begun]

        yield answer


if __name__ == "__main__":
    main()
