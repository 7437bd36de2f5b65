"""Time and memory of `radixcache doctor`: on a real log, or on a synthetic one of any length.

    python -m benchmarks.doctor_speed ../shared/data/airline_agent.jsonl.xz
    python -m benchmarks.doctor_speed --requests 1000000

The synthetic log is a service of many users: prompts of token ids that share one of 50 beginnings of 60
tokens and go on with 20 of their own, every other request a second turn of the one before. It is written to
a temporary file first, which is not counted. Seconds of the processor are printed beside those of the clock,
for a busy machine; memory is the largest resident size.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_SHARED, _OWN, _BEGINNINGS = 60, 20, 50


def write_log(path: Path, requests: int) -> None:
    """The synthetic log, by seed."""
    seeded = random.Random(7)
    beginnings = [[seeded.randrange(50_000) for _ in range(_SHARED)] for _ in range(_BEGINNINGS)]
    ids: list[int] = []
    with path.open("w", encoding="utf-8") as file:
        for place in range(requests):
            if place % 2 == 0:
                ids = list(beginnings[seeded.randrange(_BEGINNINGS)])
            ids = ids + [seeded.randrange(50_000) for _ in range(_OWN)]
            file.write(json.dumps({"session": f"s{place // 2}", "prompt_token_ids": ids}) + "\n")


def measure(log: str, options: list[str]) -> None:
    """Run the doctor on a log and print what it took."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        command = [sys.executable, "-m", "radixcache", "doctor", log, "--json", str(out), *options]
        begun = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - begun
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        report = json.loads(out.read_text(encoding="utf-8"))
    missed = sum(report["missed_tokens"].values())
    assert missed == report["prompt_tokens"] - report["cached_tokens"]
    print(
        f"{report['requests']:,} requests, {report['prompt_tokens']:,} tokens, "
        f"hit rate {report['hit_rate']:.4f}: "
        f"{seconds:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of processor, "
        f"{used.ru_maxrss / 1024:,.0f} MiB at most, {missed:,} missed tokens accounted for"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("log", nargs="?")
    parser.add_argument("--requests", type=int, default=100_000, help="of the synthetic log")
    parser.add_argument("options", nargs="*", help="further options of radixcache doctor, after --")
    arguments = parser.parse_args()
    if arguments.log is not None:
        measure(arguments.log, arguments.options)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.jsonl"
        write_log(path, arguments.requests)
        measure(str(path), arguments.options)


if __name__ == "__main__":
    main()
