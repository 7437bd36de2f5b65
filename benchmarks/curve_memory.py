"""Memory and time of `radixcache curve` on a made log of 10 million block references.

The log is a temporary file: conversations of several turns, each turn with the blocks of the one before and
new ones, under a few system prompts. As `hashes` it is in Mooncake's format; as `ids` each block is 16 token
ids. The command runs in a process of its own, and its largest resident size is what the system counted.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.common import arguments, write_results

_ACTIVE = 2000
_TRACE_BLOCK = 512
_ROOT = Path(__file__).resolve().parents[1]


def conversations(references: int, seed: int) -> Iterator[list[int]]:
    """Prompts as numbers of blocks, until there are so many of them in all."""
    rng = random.Random(seed)
    systems = [list(range(i * 100, i * 100 + rng.randint(5, 40))) for i in range(8)]
    following, made = 1000, 0
    talks: list[tuple[list[int], int]] = []
    while made < references:
        while len(talks) < _ACTIVE:
            talks.append((list(rng.choice(systems)), rng.randint(1, 8)))
        place = rng.randrange(_ACTIVE)
        blocks, turns = talks[place]
        new = rng.randint(5, 40)
        blocks.extend(range(following, following + new))
        following += new
        made += len(blocks)
        yield blocks
        talks[place] = (blocks, turns - 1)
        if turns == 1:
            talks[place] = talks[-1]
            talks.pop()


def as_hashes(blocks: Sequence[int]) -> str:
    """A line in Mooncake's format."""
    ids = ",".join(map(str, blocks))
    return f'{{"timestamp":0,"input_length":{len(blocks) * _TRACE_BLOCK},"hash_ids":[{ids}]}}\n'


def as_ids(blocks: Sequence[int]) -> str:
    """A line of token ids, sixteen a block."""
    ids = ",".join(f"{b % 997},{b // 997},7,7,7,7,7,7,7,7,7,7,7,7,7,7" for b in blocks)
    return f'{{"prompt_token_ids":[{ids}]}}\n'


def measure(log: Path, folder: Path, options: Sequence[str]) -> dict[str, object]:
    """Run the command; seconds and megabytes (10^6) it took, and the head of its report."""
    report = folder / "curve.json"
    command = [sys.executable, "-m", "radixcache", "curve", str(log), "--json", str(report), *options]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=_ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    found = json.loads(report.read_text())
    (curve,) = found["curves"]
    scale = 1 if sys.platform == "darwin" else 1024
    return {
        "options": list(options),
        "requests": found["requests"],
        "block_references": curve["block_references"],
        "distinct_blocks": curve["distinct_blocks"],
        "unbounded_hit_rate": curve["unbounded_hit_rate"],
        "wall_s": round(wall, 2),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mb": round(usage.ru_maxrss * scale / 1e6),
    }


def main() -> None:
    """Write the log, run the command once with each set of options, print and keep the figures."""
    parser = arguments("curve_memory", __doc__, model=None)
    parser.add_argument("--references", type=int, default=10_000_000, help="block references in the log")
    parser.add_argument("--kind", choices=("hashes", "ids"), default="hashes", help="what the log holds")
    parser.add_argument("--sample", type=float, default=0.01, help="share of blocks for the sampled run")
    args = parser.parse_args()
    line = as_hashes if args.kind == "hashes" else as_ids
    runs = []
    with tempfile.TemporaryDirectory(prefix="radixcache-") as name:
        folder = Path(name)
        log = folder / "log.jsonl"
        with log.open("w", encoding="ascii") as file:
            file.writelines(line(blocks) for blocks in conversations(args.references, args.seed))
        print(f"a log of {args.kind}, {log.stat().st_size / 1e6:,.0f} MB")
        for options in ([], ["--no-clairvoyant"], ["--sample", str(args.sample)]):
            run = measure(log, folder, options)
            runs.append(run)
            print(
                f"{' '.join(options):16} {run['block_references']:>12,} references  {run['wall_s']:>7} s "
                f"({run['cpu_s']} s CPU)  {run['peak_mb']:>6,} MB"
            )
    write_results(
        args.out, {"references": args.references, "kind": args.kind, "seed": args.seed, "runs": runs}
    )


if __name__ == "__main__":
    main()
