"""How the index scales: eviction at many leaves, memory at many nodes, a match of a very long prompt.

An eviction is one block of the least recently used leaf, from trees of 1,000 to 1,000,000 leaves of one
block each, all children of one node. The long prompt of 1,000,000 tokens is matched where it was published
at once, where it was published in steps of 2,048 tokens, and where it differs in the middle, each against
one comparison (memcmp) of the bytes that match. Memory is measured by `tree_memory.py`.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks.common import RESULTS, Meter, arguments, write_results
from benchmarks.tree_side_by_side import other_cpu_cores
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.tokens import PackedTokens, pack

_MEMORY = Path(__file__).with_name("tree_memory.py")
_LEAVES = (1_000, 10_000, 100_000, 1_000_000)
_EVICTIONS = 400
_LONG = 1_000_000
_STEP = 2_048
_BLOCK = 16


def main() -> None:
    """Measure, print and write."""
    options = _options()
    with Meter() as meter:
        evictions = eviction(options.rounds)
        matches = long_match(options.rounds)
        weights = memory(options)
    payload = {
        "rounds": options.rounds,
        "niceness": os.nice(0),
        "other_cpu_cores": round(other_cpu_cores(meter), 2),
        "eviction": evictions,
        "long_match": matches,
        "memory": weights,
    }
    for row in evictions:
        growth = f"grew {row['growth']:.2f} times, log n {row['log_growth']:.2f} times"
        print(f"{row['leaves']:>9,} leaves: {row['us_per_eviction']:.2f} us an eviction, {growth}")
    for row in matches:
        times = f"{row['match_us']:.0f} us, memcmp {row['memcmp_us']:.0f} us, {row['ratio']:.2f} times"
        print(f"{row['case']}: {times}")
    for row in weights:
        weight = f"{row['bytes_per_token_beyond_block_ids']} bytes a token beyond block ids"
        print(f"{row['index']}, blocks of {row['page']}: {weight} ({row['counted']})")
    write_results(options.out, payload)


def _options() -> argparse.Namespace:
    parser = arguments("tree_scaling", __doc__, model=None)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peers-dir", type=Path, help="holds venv and sgl, to weigh SGLang's index, too")
    parser.add_argument("--script", type=Path, help="the peers' bench_tree.py")
    parser.set_defaults(out=RESULTS / "tree-scaling.json")
    return parser.parse_args()


def eviction(rounds: int) -> list[dict[str, Any]]:
    """Median time of one eviction by number of leaves; the trees take turns in every round."""
    trees = {leaves: _Tree(leaves) for leaves in _LEAVES}
    times: dict[int, list[float]] = {leaves: [] for leaves in _LEAVES}
    gc.collect()
    gc.disable()
    for _ in range(rounds):
        for leaves, tree in trees.items():
            evict = partial(tree.cache.evict, 1)
            times[leaves].append(median(_seconds(evict) for _ in range(_EVICTIONS)))
            tree.grow(_EVICTIONS)
    gc.enable()
    first = times[_LEAVES[0]]
    return [
        {
            "leaves": leaves,
            "us_per_eviction": round(1e6 * median(values), 3),
            "growth": round(median(value / base for value, base in zip(values, first, strict=True)), 2),
            "log_growth": round(math.log(leaves) / math.log(_LEAVES[0]), 2),
        }
        for leaves, values in times.items()
    ]


class _Tree:
    """Leaves of one block each under one block."""

    def __init__(self, leaves: int) -> None:
        self._rng = random.Random(leaves)
        self._system = self._ids()
        self.cache = PrefixCache(leaves + 8, _BLOCK, explain=False)
        self.grow(leaves)

    def grow(self, leaves: int) -> None:
        for _ in range(leaves):
            _serve(self.cache, pack([*self._system, *self._ids()]))

    def _ids(self) -> list[int]:
        return self._rng.choices(range(128_000), k=_BLOCK)


def long_match(rounds: int) -> list[dict[str, Any]]:
    """Median times of a match and of one memcmp, in turn, over the same bytes."""
    ids = random.Random(0).choices(range(128_000), k=_LONG)
    prompt = pack(ids)
    ids[_LONG // 2] += 1
    other = pack(ids)
    at_once, in_steps = (PrefixCache(_LONG // _BLOCK + 8, _BLOCK, explain=False) for _ in range(2))
    _serve(at_once, _copy(prompt))
    with in_steps.acquire(_copy(prompt)) as lease:
        for computed in (*range(_STEP, _LONG, _STEP), _LONG):
            lease.commit(computed)
    cases = [
        ("published at once", at_once, prompt, _LONG - 1),
        ("published in steps of 2,048", in_steps, prompt, _LONG - 1),
        ("differing in the middle", at_once, other, _LONG // 2),
    ]
    return [_time_match(*case, rounds) for case in cases]


def _time_match(case: str, cache: PrefixCache, query: bytes, expected: int, rounds: int) -> dict[str, Any]:
    assert cache.match(query) == expected
    matching = query[: 4 * expected]
    same = _copy(matching)
    times, plain = [], []
    for _ in range(rounds):
        times.append(_seconds(lambda: cache.match(query)))
        plain.append(_seconds(lambda: matching == same))
    match_s, memcmp_s = median(times), median(plain)
    return {
        "case": case,
        "tokens": expected,
        "match_us": round(1e6 * match_s, 1),
        "memcmp_us": round(1e6 * memcmp_s, 1),
        "ratio": round(match_s / memcmp_s, 2),
    }


def memory(options: argparse.Namespace) -> list[dict[str, Any]]:
    """What the index weighs, ours and, if it is there, SGLang's; each in a process of its own."""
    rows = []
    for page in ("16", "1"):
        ours = [sys.executable, str(_MEMORY), "ours", "--page", page]
        commands = [ours, [*ours, "--traced"]]
        if options.peers_dir is not None:
            python = str(options.peers_dir / "venv/bin/python")
            place = ["--script", str(options.script), "--sglang", str(options.peers_dir / "sgl")]
            commands.append([python, str(_MEMORY), "sglang-rust", "--page", page, *place])
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"error: {command[2]}: {done.stderr.strip().splitlines()[-1:]}")
            rows.append(json.loads(done.stdout.splitlines()[-1]))
    return rows


def _serve(cache: PrefixCache, prompt: bytes) -> None:
    with cache.acquire(prompt) as lease:
        lease.commit(lease.num_tokens)


def _copy(packed: bytes) -> PackedTokens:
    return PackedTokens(bytearray(packed))


def _seconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


if __name__ == "__main__":
    main()
