"""What it costs that answers do not depend on the batch: row rules kept to, beside whatever rows there are.

Two engines over one model take turns; one of them calls products and attention with whatever rows come.
Start-up is timed with an empty memory of trials and again with what they left there.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from statistics import median

from benchmarks.common import Meter, arguments, model_label, random_ids, set_threads, spread, write_results
from radixcache import Engine, EngineConfig, LoadedModel, SamplingParams, load_model
from radixcache.numerics import memory


def main() -> None:
    """Measure, print and write."""
    parser = arguments("invariance", __doc__)
    parser.add_argument("--prefill-tokens", type=int, default=1000)
    parser.add_argument("--prompt-tokens", type=int, default=100, help="of the decode measurement")
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    set_threads(options.threads)
    model = load_model(options.model, dtype=options.dtype)
    dtype = str(model.dtype).removeprefix("torch.")
    first, later, before = _start_up(model)
    print(
        f"{dtype}: start-up {first:.2f} s the first time, {later:.2f} s later, {before:.2f} s without trials"
    )
    source = random.Random(options.seed)
    vocabulary = int(model.model.config.get_text_config().vocab_size)
    modes = (True, False)
    prefill: dict[bool, list[float]] = {mode: [] for mode in modes}
    decode: dict[bool, list[float]] = {mode: [] for mode in modes}
    engines = {mode: Engine(model, EngineConfig(cache=False, invariant=mode)) for mode in modes}
    stats = engines[True].stats()
    with Meter() as meter:
        for _ in range(options.rounds):
            prompt = random_ids(source, options.prefill_tokens, vocabulary)
            batch = [
                random_ids(source, options.prompt_tokens, vocabulary) for _ in range(options.concurrency)
            ]
            for mode, engine in engines.items():
                (one,) = engine.generate([prompt], SamplingParams(max_tokens=1, ignore_eos=True))
                prefill[mode].append(options.prefill_tokens / one.ttft)
                params = SamplingParams(max_tokens=options.new_tokens, ignore_eos=True)
                results = engine.generate(batch, params)
                spent = max(result.latency for result in results) - max(result.ttft for result in results)
                decode[mode].append(options.concurrency * (options.new_tokens - 1) / spent)
    for engine in engines.values():
        engine.close()
    ratios = {}
    for name, speeds in (("prefill", prefill), ("decode", decode)):
        ratios[name] = median(kept / free for kept, free in zip(speeds[True], speeds[False], strict=True))
        kept, free = (median(speeds[mode]) for mode in modes)
        print(f"{name}: {kept:.1f} tokens/s with row rules, {free:.1f} without: {ratios[name]:.2f}x")
    print(f"batch_invariant {stats.batch_invariant}; others used {meter.other_cpu_cores:.1f} cores")
    write_results(
        options.out.with_stem(f"{options.out.stem}-{dtype}"),
        {
            "model": model_label(options.model),
            "dtype": dtype,
            "threads": options.threads,
            "batch_invariant": stats.batch_invariant,
            "start_up_s": {"first": first, "later": later, "without_trials": before},
            "tokens_per_s": {
                name: {"row rules": spread(speeds[True]), "free": spread(speeds[False])}
                for name, speeds in (("prefill", prefill), ("decode", decode))
            },
            "row_rules_over_free": ratios,
            "other_cpu_cores": meter.other_cpu_cores,
        },
    )


def _start_up(model: LoadedModel) -> tuple[float, float, float]:
    """Seconds to make an engine: with nothing remembered, with everything, and without any trial."""
    known = os.environ.get("RADIXCACHE_HOME")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RADIXCACHE_HOME"] = folder
        memory.forget()
        try:
            first = _seconds_to_make(model, invariant=True)
            later = _seconds_to_make(model, invariant=True)
        finally:
            memory.forget()
            if known is None:
                del os.environ["RADIXCACHE_HOME"]
            else:
                os.environ["RADIXCACHE_HOME"] = known
    return first, later, _seconds_to_make(model, invariant=False)


def _seconds_to_make(model: LoadedModel, *, invariant: bool) -> float:
    start = time.perf_counter()
    engine = Engine(model, EngineConfig(cache_tokens=4096, invariant=invariant))
    spent = time.perf_counter() - start
    engine.close()
    return spent


if __name__ == "__main__":
    main()
