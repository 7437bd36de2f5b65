"""What an index of a million cached tokens in 50,000 nodes weighs; one index a process.

    PYTHON benchmarks/tree_memory.py ours --page 16
    PYTHON benchmarks/tree_memory.py sglang-rust --page 16 --script bench_tree.py --sglang DIR

Prompts share one system prompt of 512 tokens and then go 50,000 ways, 20 tokens each on average. They
are made and kept in the index's own form before the first measurement, so that what is counted is
what the index adds: by the process's resident size, and for ours by Python's allocations, too. Block
ids count 4 bytes a block, and are told apart. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import random
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_LEAVES = 50_000
_SYSTEM = 512
_ID_BYTES = 4


def prompts(page: int, seed: int = 0) -> Iterator[list[int]]:
    """Token lists, each with a node of its own; with blocks of more than one token, whole blocks of 16.

    One at a time: room that a list of them all had left behind would hide what the index takes.
    """
    rng = random.Random(seed)

    def ids(count: int) -> list[int]:
        return [rng.randrange(1, 128_000) for _ in range(count)]

    system = ids(_SYSTEM)
    lengths = (16, 16, 16, 32) if page > 1 else range(10, 31)
    firsts = rng.sample(range(1, 128_000), _LEAVES)
    return ([*system, first, *ids(rng.choice(lengths) - 1)] for first in firsts)


def main() -> None:
    """Build the index and print what it weighs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("index", choices=("ours", "sglang-rust"))
    parser.add_argument("--page", type=int, default=16, help="tokens a block")
    parser.add_argument(
        "--traced", action="store_true", help="count Python's allocations, not resident bytes"
    )
    parser.add_argument("--script", type=Path, help="the peers' bench_tree.py")
    parser.add_argument("--sglang", type=Path, help="the unpacked sglang wheel")
    options = parser.parse_args()
    index = _ours(options.page) if options.index == "ours" else _theirs(options)
    native = [index.prepare(prompt) for prompt in prompts(options.page)]
    clock = _Clock()
    index.step(index.prepare([1] * 2 * options.page), clock)
    gc.collect()
    if options.traced:
        tracemalloc.start()
    before = _bytes(options.traced)
    for prompt in native:
        index.step(prompt, clock)
    gc.collect()
    weight = _bytes(options.traced) - before
    tokens = _SYSTEM + sum(_tokens(prompt, options.index) - _SYSTEM for prompt in native)
    ids = _ID_BYTES * tokens // options.page
    print(
        json.dumps(
            {
                "index": options.index,
                "page": options.page,
                "counted": "Python's allocations" if options.traced else "resident bytes",
                "tokens": tokens,
                "bytes_per_token": round(weight / tokens, 2),
                "bytes_per_token_beyond_block_ids": round((weight - ids) / tokens, 2),
            }
        )
    )


class _Clock:
    match = lock = evict = insert = evictions = 0


def _ours(page: int) -> Any:
    return _load(Path(__file__).with_name("tree_adapter.py")).Index(4 << 20, page)


def _theirs(options: argparse.Namespace) -> Any:
    os.environ["SGLANG_DIR"] = str(options.sglang)
    sys.path.insert(0, str(options.script.parent))
    return _load(options.script).SglRust(4 << 20, options.page)


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _tokens(prompt: Any, index: str) -> int:
    return len(prompt) // 4 if index == "ours" else len(prompt)


def _bytes(traced: bool) -> int:
    if traced:
        return tracemalloc.get_traced_memory()[0]
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
