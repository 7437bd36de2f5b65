"""Replay on a GPU with the cache off and on: a Llama shape of 1 to 8 B parameters with random weights.

Once with layers whose rows do not depend on each other, when every output must be the same, and once without.

Speed does not depend on the weights' values, so no model has to be there: the shape is that of a published
one, the weights are random, the prompts are random token ids that share long prefixes in groups.
"""

from __future__ import annotations

import random
from array import array
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch

from benchmarks.common import arguments, random_ids, write_results
from benchmarks.random_llama import SHAPES, device_label, random_model
from radixcache.engine import Engine, EngineConfig, SamplingParams
from radixcache.models import LoadedModel
from radixcache.replay.prepare import ReplayRequest
from radixcache.replay.replay import replay
from radixcache.replay.results import ReplayReport, RunSummary
from radixcache.replay.settings import ReplaySettings
from radixcache.replay.target import ReplayTarget
from radixcache.workload.interleave import interleave


def main() -> None:
    """Measure, print and write; without a CUDA device, say so and do nothing."""
    parser = arguments("gpu_replay", __doc__, model=None)
    parser.add_argument("--shape", choices=tuple(SHAPES), default="1b", help="tiny is for trying it out")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try it out")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--groups", type=int, default=8, help="shared prefixes")
    parser.add_argument("--requests", type=int, default=12, help="requests a group")
    parser.add_argument("--prefix", type=int, default=4096, help="tokens of a shared prefix")
    parser.add_argument("--tail", type=int, default=128, help="tokens of each request after it")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--cache-tokens", type=int, default=131072, help="room for keys and values")
    parser.add_argument("--max-batch-tokens", type=int, default=4096, help="token budget of a step")
    parser.add_argument(
        "--invariant",
        choices=("both", "on", "off"),
        default="both",
        help="outputs must not depend on the batch",
    )
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device here: nothing was measured")
        return
    torch.set_num_threads(options.threads)
    device = torch.device("cuda:0" if options.device == "cuda" else options.device)
    source = random.Random(options.seed)
    torch.manual_seed(options.seed)
    longest = options.prefix + options.tail + options.max_tokens
    model = random_model(options.shape, device, getattr(torch, options.dtype), longest)
    parameters = sum(weight.numel() for weight in model.model.parameters())
    print(f"{device_label(device)}: {model.name}, {parameters / 1e9:.2f} B parameters, {options.dtype}")
    config = EngineConfig(
        cache_tokens=options.cache_tokens,
        max_batch_tokens=options.max_batch_tokens,
        max_running=options.concurrency,
    )
    vocabulary = SHAPES[options.shape][-1]
    tails = (options.requests, options.prefix, options.tail)
    requests = _requests(source, vocabulary, options.groups, tails, options.max_tokens)
    settings = ReplaySettings(
        cache="compare", max_tokens=options.max_tokens, concurrency=options.concurrency, ignore_eos=True
    )
    modes = {"both": (True, False), "on": (True,), "off": (False,)}[options.invariant]
    reports: dict[str, ReplayReport] = {}
    for invariant in modes:
        name = "on" if invariant else "off"
        chosen = replace(config, invariant=invariant)
        with Engine(model, chosen) as engine:
            # Kernels are compiled at their first run, which belongs to neither mode.
            warm = [random_ids(source, options.prefix, vocabulary) for _ in range(2)]
            engine.generate(warm, SamplingParams(max_tokens=2, ignore_eos=True))
        target = ReplayTarget(
            model=model.name,
            dtype=options.dtype,
            device=str(device),
            block_size=config.block_size,
            cache_tokens=config.cache_tokens,
            tokenizer=None,
            make_engine=partial(_engine, model, chosen),
        )
        print(f"invariant {name}:")
        reports[name] = replay(requests, target, settings, logs=["random"], on_progress=_progress).report
        _print_report(reports[name])
    costs = _costs(reports)
    if costs:
        print("invariant on / off, seconds: " + ", ".join(f"cache {run} {costs[run]:.3f}x" for run in costs))
    write_results(
        options.out,
        {
            "device": device_label(device),
            "cuda": torch.version.cuda,
            "shape": options.shape,
            "parameters": parameters,
            "max_batch_tokens": options.max_batch_tokens,
            "peak_gpu_gib": torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None,
            "invariant_over_free_s": costs,
            "invariant": {name: _as_dict(report) for name, report in reports.items()},
        },
    )


def _engine(model: LoadedModel, config: EngineConfig, cache: bool) -> Engine:
    return Engine(model, replace(config, cache=cache))


def _as_dict(report: ReplayReport) -> dict[str, Any]:
    off, on = report.runs
    return {
        "off_over_on": off.wall_s / on.wall_s,
        "answered": _answered(report),
        "identical_outputs": _answered(report) - len(report.differing_requests),
        "replay": asdict(report),
    }


def _answered(report: ReplayReport) -> int:
    return max(run.requests for run in report.runs)


def _print_report(report: ReplayReport) -> None:
    off, on = report.runs
    for run in (off, on):
        _print_run(run)
    answered = _answered(report)
    identical = answered - len(report.differing_requests)
    print(f"off / on: {off.wall_s / on.wall_s:.2f}x   identical outputs: {identical} of {answered}")


def _costs(reports: dict[str, ReplayReport]) -> dict[str, float]:
    """Seconds with invariant layers over those without, by run; empty if there is but one of them."""
    if len(reports) < 2:
        return {}
    pairs = zip(reports["on"].runs, reports["off"].runs, strict=True)
    return {ours.cache: ours.wall_s / free.wall_s for ours, free in pairs}


def _requests(
    source: random.Random, vocabulary: int, groups: int, tails: tuple[int, int, int], max_tokens: int
) -> list[ReplayRequest]:
    """Groups that share a prefix each, all groups taking turns."""
    count, prefix_tokens, tail_tokens = tails
    prompts: list[tuple[str, array[int]]] = []
    for group in range(groups):
        prefix = random_ids(source, prefix_tokens, vocabulary)
        prompts += [
            (f"group-{group}", array("i", prefix + random_ids(source, tail_tokens, vocabulary)))
            for _ in range(count)
        ]
    return [
        ReplayRequest(
            index=index,
            source="random",
            line=index + 1,
            session=group,
            namespace="",
            tokens=tokens,
            max_tokens=max_tokens,
            timestamp=None,
        )
        for index, (group, tokens) in enumerate(interleave(prompts, groups, lambda prompt: prompt[0]))
    ]


def _progress(run: str, done: int, total: int) -> None:
    if done == total:
        print(f"  cache {run}: {total} requests done", flush=True)


def _print_run(run: RunSummary) -> None:
    ttft = ", ".join(f"{value or 0:.3f}" for value in (run.ttft_s.p50, run.ttft_s.p90, run.ttft_s.p99))
    print(
        f"cache {run.cache:3} {run.wall_s:8.2f} s   hit rate {100 * run.hit_rate:5.1f} %   "
        f"prefill {run.prefill_tokens:,} tokens   ttft p50, p90, p99 {ttft} s   "
        f"{run.decode_tokens / run.wall_s:.0f} new tokens/s   control plane {100 * run.control_share:.2f} %"
    )


if __name__ == "__main__":
    main()
