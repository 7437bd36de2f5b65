"""Compares bits in this process's limits and prints one JSON line a case; run by test_bits_elsewhere.

Usage: python -m tests.engine.bits_worker THREADS SEED PART PARTS [--product-first]

Of the cases it takes every PARTS-th, from PART on.
"""

from __future__ import annotations

import itertools
import json
import random
import sys

import torch

if "--product-first" in sys.argv:
    # Before anything asks for reproducible products, as a program does that has other work, too.
    torch.randn(300, 300) @ torch.randn(300, 300)

from radixcache import Engine, EngineConfig, SamplingParams
from radixcache.kv.formats import KV_DTYPES
from tests import tiny_models
from tests.engine.company import compare_in_company

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

NARROW = ("gpt2-mha", "modernbert-decoder")  # whose heads are not multiples of 16 wide


def main() -> None:
    """Models in every dtype, each with one way of storing keys and values; then whole answers."""
    threads, seed, part, parts = map(int, sys.argv[1:5])
    torch.set_num_threads(threads)
    stored = itertools.cycle(random.Random(seed).sample(list(KV_DTYPES), len(KV_DTYPES)))
    cases = itertools.product((*tiny_models.NAMES, *tiny_models.GATED), DTYPES.items())
    for name, (dtype, kind) in itertools.islice(cases, part, None, parts):
        kv_dtype = next(stored)
        if name in NARROW and kv_dtype == "int4":
            kv_dtype = "int8"
        found = compare_in_company(name, kind, kv_dtype, length=300, trials=1, seed=seed)
        report = {"rows": found.rows, "differing": found.differing, "variance": found.runner.variance}
        print(json.dumps({"case": f"{name} {dtype} kv {kv_dtype}", **report}), flush=True)
    for dtype, kind in DTYPES.items():
        differing, rows = compare_answers(kind)
        report = {"rows": rows, "differing": differing, "variance": ""}
        print(json.dumps({"case": f"answers {dtype}", **report}), flush=True)


def compare_answers(dtype: torch.dtype) -> tuple[int, int]:
    """Answers of an engine under pressure, with forks and hits, against those of a lone miss each."""
    rng = random.Random(0)
    model = tiny_models.tiny("llama", dtype=dtype)
    head = [rng.randrange(3, 128) for _ in range(70)]
    prompts = [head[: rng.randrange(20, 70)] + [rng.randrange(3, 128) for _ in range(5)] for _ in range(12)]
    params = [
        SamplingParams(max_tokens=16, n=1 + index % 2, temperature=index % 2, seed=index, logprobs=1)
        for index in range(len(prompts))
    ]
    with Engine(model, EngineConfig(cache=False, cache_tokens=2048)) as engine:
        alone = [engine.generate(p, q)[0] for p, q in zip(prompts, params, strict=True)]
    with Engine(model, EngineConfig(cache_tokens=384, max_batch_tokens=48)) as engine:
        handles = [engine.submit(p, q) for p, q in zip(prompts, params, strict=True)]
        together = [handle.result(120) for handle in handles]
        assert engine.stats().preemptions
    return sum(a.completions != b.completions for a, b in zip(alone, together, strict=True)), len(prompts)


if __name__ == "__main__":
    main()
