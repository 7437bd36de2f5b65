"""Our engine and other engines on the same workloads, in turn, each run a process of its own.

For every workload, concurrency and cache setting the engines run one right after the other, in the other
order in every second round; medians over the rounds are compared. An engine that is missing or fails is
reported and left out of the comparison.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, write_results
from benchmarks.engines.processes import DRIVERS, OURS, Case, Launcher
from benchmarks.engines.table import compare, print_table


def main() -> None:
    """Run, print and write."""
    options = _options()
    launcher = Launcher(
        peers_dir=options.peers_dir.resolve(),
        scripts=options.peer_scripts.resolve(),
        dtype=options.dtype,
        threads=options.threads,
        timeout_s=options.timeout,
    )
    engines = [OURS, *options.peers]
    cases = _cases(options)
    runs: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    for number in range(options.rounds):
        for case in cases:
            for engine in engines if number % 2 == 0 else engines[::-1]:
                _run(launcher, engine, case, number, runs, failures)
                _write(options, runs, failures, cases)
    print_table(compare(runs, cases, engines))
    for failure in failures:
        print(f"failed: {failure['engine']}, {failure['case']}: {failure['error']}", file=sys.stderr)
    print(f"results: {options.out}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engines.side_by_side",
        description=(__doc__ or "").partition("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--peers-dir", type=Path, required=True, help="holds venv-vllm, venv-hf, smollm2-hf")
    parser.add_argument(
        "--peer-scripts", type=Path, required=True, help="holds peer_*.py and the workload files"
    )
    parser.add_argument("--peers", nargs="*", default=["vllm", "hf-cb"], choices=sorted(DRIVERS))
    parser.add_argument("--workloads", nargs="+", default=["shared", "chat"], choices=("shared", "chat"))
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--cache", nargs="+", default=["on", "off"], choices=("on", "off"))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--limit", type=int, default=0, help="requests of a run; 0 is all")
    parser.add_argument("--limit-alone", type=int, default=16, help="the same at concurrency 1")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for one run")
    parser.add_argument("--out", type=Path, default=RESULTS / "side_by_side.json")
    return parser.parse_args()


def _cases(options: argparse.Namespace) -> list[Case]:
    limits = {1: options.limit_alone if not options.limit else min(options.limit, options.limit_alone)}
    return [
        Case(workload, concurrency, cache, limits.get(concurrency, options.limit))
        for workload, concurrency, cache in product(options.workloads, options.concurrency, options.cache)
    ]


def _run(
    launcher: Launcher,
    engine: str,
    case: Case,
    number: int,
    runs: list[dict[str, Any]],
    failures: list[dict[str, Any]],
) -> None:
    if not launcher.serves(engine, case):
        return
    if any(failure["engine"] == engine and failure["fatal"] for failure in failures):
        return
    print(f"round {number + 1}, {case}, {engine}: ", end="", flush=True)
    outcome = launcher.run(engine, case)
    if outcome.line is None:
        print("failed")
        failures.append({"engine": engine, "case": str(case), "error": outcome.error, "fatal": outcome.fatal})
        return
    line = outcome.line
    print(
        f"{line['wall_s']:.1f} s, ttft {line['ttft_median_s']:.3f} s, {line['cached_tok']} of "
        f"{line['prompt_tok']} reused, {line['match_ref']} of {line['n']} as the reference, "
        f"others {line['other_cpu_cores']:.2f} cores"
    )
    runs.append({"engine": engine, "round": number, **line})


def _write(
    options: argparse.Namespace,
    runs: Sequence[dict[str, Any]],
    failures: Sequence[dict[str, Any]],
    cases: Sequence[Case],
) -> None:
    """Write what there is so far: a run takes minutes, and an interrupted one should not be lost."""
    rows = compare(runs, cases, [OURS, *options.peers])
    payload = {
        "dtype": options.dtype,
        "threads": options.threads,
        "rounds": options.rounds,
        "comparison": [row._asdict() for row in rows],
        "runs": list(runs),
        "failures": list(failures),
    }
    write_results(options.out, payload, quiet=True)


if __name__ == "__main__":
    main()
