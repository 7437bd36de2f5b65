"""Our index and SGLang's on the same requests, several runs, ratios within each run.

Every run starts the peers' script once a case; it runs each index in a process of its own, one after the
other. The ratio of a run is ours / theirs, and its median over the runs is what counts.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common import RESULTS, Meter, spread, write_results

_ADAPTER = Path(__file__).with_name("tree_adapter.py")
# What our adapter needs and the peers' environment lacks.
_PACKAGES = ("radixcache", "sortedcontainers", "xxhash")
_CASES = {  # the script's options, by name
    "tree, blocks of 16": ("--workload", "tree", "--page", "16"),
    "tree, blocks of 1": ("--workload", "tree", "--page", "1"),
    "leafy, blocks of 16": ("--workload", "leafy", "--page", "16"),
    "leafy, blocks of 1": ("--workload", "leafy", "--page", "1"),
}
_LEAFY = ("--requests", "20000", "--capacity", "2097152")
_OURS = "ours"


def main() -> None:
    """Run, print and write."""
    options = _options()
    runs: dict[str, list[dict[str, dict[str, Any]]]] = {name: [] for name in _CASES}
    with tempfile.TemporaryDirectory() as folder, Meter() as meter:
        environment = _environment(Path(folder))
        for number in range(options.runs):
            for name, case in _CASES.items():
                results = _run(options, case, environment, Path(folder) / "results.json")
                runs[name].append(results)
                print(f"run {number + 1}, {name}: " + _line(results), flush=True)
    summaries = [_summary(name, results) for name, results in runs.items()]
    print(f"\n{'ours / theirs, medians':26}{'index':20}{'request':>9}{'prepare':>9}")
    for row in summaries:
        for peer, ratios in row["ratios"].items():
            request, prepare = ratios["request"]["median"], ratios["prepare"]["median"]
            print(f"{row['case']:26}{peer:20}{request:9.2f}{prepare:9.2f}")
    payload = {
        "adapter": f"{_ADAPTER.name}:{options.index}",
        "sglang": _sglang_version(options.peers_dir / "sgl"),
        "numpy": version("numpy"),
        "xxhash": version("xxhash"),
        "runs": options.runs,
        "niceness": os.nice(0),
        "other_cpu_cores": round(other_cpu_cores(meter), 2),
        "cases": summaries,
    }
    write_results(options.out, payload)


def other_cpu_cores(meter: Meter) -> float:
    """Cores that neither this process nor any that it has waited for kept busy."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return max(0.0, meter.other_cpu_cores - (children.ru_utime + children.ru_stime) / meter.wall_s)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tree_side_by_side",
        description=(__doc__ or "").partition("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--peers-dir", type=Path, required=True, help="holds venv and sgl")
    parser.add_argument("--script", type=Path, required=True, help="the peers' bench_tree.py")
    parser.add_argument("--peers", default="sglang-rust", help="indexes of the script, separated by commas")
    parser.add_argument("--index", default="Index", choices=("Index", "ExplainingIndex"))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "tree.json", help="where the results go")
    return parser.parse_args()


def _environment(folder: Path) -> dict[str, str]:
    """The environment of the peers' interpreter: theirs, and our packages beside it."""
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.submodule_search_locations is not None
        (folder / package).symlink_to(Path(spec.submodule_search_locations[0]).resolve())
    return {**os.environ, "PYTHONPATH": str(folder)}


def _run(
    options: argparse.Namespace, case: tuple[str, ...], environment: dict[str, str], out: Path
) -> dict[str, dict[str, Any]]:
    out.unlink(missing_ok=True)
    command = [
        *(str(options.peers_dir / "venv/bin/python"), str(options.script)),
        *("--sglang", str(options.peers_dir / "sgl"), "--peers", options.peers, "--repeat", "1"),
        *("--ours", f"{_ADAPTER}:{options.index}", "--json", str(out)),
        *case,
        *(_LEAFY if "leafy" in case else ()),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    results = {r["peer"]: r for r in json.loads(out.read_text())} if out.exists() else {}
    missing = {_OURS, *options.peers.split(",")} - results.keys()
    if missing:
        raise SystemExit(f"error: no result of {', '.join(sorted(missing))}:\n{done.stdout}{done.stderr}")
    return results


def _line(results: dict[str, dict[str, Any]]) -> str:
    return ", ".join(f"{name} {r['us_per_request']:.1f} us a request" for name, r in results.items())


def _summary(name: str, runs: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    indexes = {
        peer: {
            "us_per_request": spread(r[peer]["us_per_request"] for r in runs),
            "prepare_us": spread(r[peer]["prepare_us"] for r in runs),
            "parts_us": {part: median(r[peer]["parts_us"][part] for r in runs) for part in first["parts_us"]},
            "hit_rate": first["hit_rate"],
        }
        for peer, first in runs[0].items()
    }
    ratios = {
        peer: {
            "request": spread(r[_OURS]["us_per_request"] / r[peer]["us_per_request"] for r in runs),
            "prepare": spread(r[_OURS]["prepare_us"] / r[peer]["prepare_us"] for r in runs),
        }
        for peer in runs[0]
        if peer != _OURS
    }
    return {"case": name, "requests": runs[0][_OURS]["requests"], "ratios": ratios, "indexes": indexes}


def _sglang_version(folder: Path) -> str:
    names = [found.name for found in folder.glob("sglang-*.dist-info")]
    return names[0].removesuffix(".dist-info").removeprefix("sglang-") if names else "unknown"


if __name__ == "__main__":
    main()
