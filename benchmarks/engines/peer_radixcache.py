"""Our engine on a workload file, in a closed loop; one line of JSON for each run.

The options and the keys of the line are those of the drivers of other engines, so that `side_by_side` can
run them all. Token ids in, token ids out: no text is made. A run starts with an empty cache.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks.common import (
    Meter,
    WorkloadRequest,
    load_workload,
    peak_rss_mb,
    set_threads,
    wait_until_quiet,
)
from radixcache.engine import Engine, EngineConfig, GenerationResult, RequestHandle, SamplingParams
from radixcache.models import load_model
from radixcache.replay.arrivals import closed_loop

_DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
_SUPPRESSED = (0, 2)  # the end tokens that the reference was made without


def main() -> None:
    """Run every workload at every concurrency."""
    options = _options()
    set_threads(options.threads)
    folder = options.model or f"{os.environ.get('PEERS_DIR', '.')}/smollm2-hf/{options.dtype}"
    begin = time.perf_counter()
    # Without a tokenizer nothing is detokenised, as in the other drivers.
    loaded = replace(load_model(folder, device="cpu", dtype=_DTYPES[options.dtype]), tokenizer=None)
    config = EngineConfig(
        cache=options.cache == "on",
        block_size=options.block_size,
        cache_tokens=options.kv_tokens,
        max_batch_tokens=options.max_batch_tokens,
    )
    with Engine(loaded, config) as engine:
        engine.submit(list(range(100, 164)), _params(8)).result()
        load_s = time.perf_counter() - begin
        for workload in options.workload:
            requests = load_workload(workload, options.limit)
            for concurrency in options.concurrency:
                line = _run(engine, requests, concurrency, options)
                line |= {"workload": workload.name, "load_s": round(load_s, 1)}
                print(json.dumps(line), flush=True)
                if options.out is not None:
                    _append(options.out, line)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engines.peer_radixcache",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--workload", nargs="+", type=Path, required=True)
    parser.add_argument("--cache", choices=("on", "off"), default="on")
    parser.add_argument("--concurrency", type=_numbers, default=(1,), help="comma list")
    parser.add_argument("--dtype", choices=tuple(_DTYPES), default="fp32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=int, default=0, help="only so many requests; 0 is all")
    parser.add_argument("--tag", default="", help="told apart in the line")
    parser.add_argument("--out", type=Path, help="a folder; lines are appended to radixcache.jsonl there")
    parser.add_argument("--model", help="model folder; by default smollm2-hf/DTYPE in the folder $PEERS_DIR")
    parser.add_argument("--block-size", type=int, default=16)
    parser.add_argument("--kv-tokens", type=int, default=32768, help="room for keys and values")
    parser.add_argument("--max-batch-tokens", type=int, default=EngineConfig().max_batch_tokens)
    return parser.parse_args()


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _params(tokens: int) -> SamplingParams:
    """Greedy, exactly `tokens` new tokens: end tokens are banned for as long as `min_tokens` lasts."""
    return SamplingParams(max_tokens=tokens, min_tokens=tokens, stop_token_ids=_SUPPRESSED)


@dataclass(frozen=True, slots=True)
class _Finished:
    request: WorkloadRequest
    result: GenerationResult

    @property
    def per_token_s(self) -> float:
        """Seconds for each token after the first."""
        result = self.result
        return (result.latency - result.ttft) / max(1, result.completion_tokens - 1)


def _run(
    engine: Engine, requests: Sequence[WorkloadRequest], concurrency: int, options: argparse.Namespace
) -> dict[str, Any]:
    engine.reset_cache()
    noise = wait_until_quiet(float(os.environ.get("QUIET", "0")))
    finished: list[_Finished] = []

    def start(request: WorkloadRequest) -> RequestHandle:
        return engine.submit(request.prompt_ids, _params(request.max_tokens), request_id=request.id)

    def finish(request: WorkloadRequest, handle: Any) -> None:
        finished.append(_Finished(request, handle.result()))

    before = engine.stats()
    with Meter() as meter:
        closed_loop(requests, start, finish, concurrency=concurrency)
    after = engine.stats()
    control, steps = after.control_s - before.control_s, after.step_s - before.step_s
    return _line(finished, meter, concurrency, options) | {
        "steps": after.steps - before.steps,
        "control_share": round(control / steps, 5) if steps else 0.0,
        "noise_before": round(noise, 2),
        "block_size": options.block_size,
        "max_batch_tokens": options.max_batch_tokens,
    }


def _line(
    finished: Sequence[_Finished], meter: Meter, concurrency: int, options: argparse.Namespace
) -> dict[str, Any]:
    results = [one.result for one in finished]
    ttft = sorted(result.ttft for result in results)
    tokens = sum(result.completion_tokens for result in results)
    outputs = {one.request.id: list(one.result.token_ids) for one in finished}
    return {
        "peer": "radixcache",
        "tag": options.tag,
        "version": f"radixcache {version('radixcache')}, torch {version('torch')}",
        "dtype": options.dtype,
        "cache": options.cache,
        "concurrency": concurrency,
        "threads": options.threads,
        "n": len(finished),
        "wall_s": round(meter.wall_s, 2),
        "out_tok": tokens,
        "out_tok_s": round(tokens / meter.wall_s, 2),
        "ttft_mean_s": round(mean(ttft), 3),
        "ttft_median_s": round(median(ttft), 3),
        "ttft_p90_s": round(ttft[int(0.9 * len(ttft))], 3),
        "tpot_mean_ms": round(1000 * mean(one.per_token_s for one in finished), 1),
        "e2e_mean_s": round(mean(result.latency for result in results), 3),
        "prompt_tok": sum(result.prompt_tokens for result in results),
        "cached_tok": sum(result.cached_tokens for result in results),
        "peak_rss_mb": peak_rss_mb(),
        "own_cpu_s": round(meter.own_cpu_s, 1),
        "other_cpu_cores": round(meter.other_cpu_cores, 2),
        "match_ref": sum(tuple(outputs[one.request.id]) == one.request.ref_ids for one in finished),
        "sha": hashlib.sha1(json.dumps(sorted(outputs.items())).encode()).hexdigest()[:10],
        "when": time.strftime("%H:%M:%S"),
    }


def _append(folder: Path, line: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "radixcache.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
