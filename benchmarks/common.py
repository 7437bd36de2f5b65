"""What the benchmarks share: options, workloads, medians, machine, load of the machine, results."""

from __future__ import annotations

import argparse
import json
import lzma
import os
import platform
import random
import resource
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("radixcache", "torch", "transformers", "triton")


def arguments(
    name: str, description: str | None, *, model: str | None = "smollm2-135m"
) -> argparse.ArgumentParser:
    """A parser with the options that all benchmarks take; `model` None leaves --model and --dtype out."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=(description or "").partition("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    if model is not None:
        parser.add_argument("--model", default=model, help="embedded model's name, or a model folder")
        parser.add_argument("--dtype", default="float32", choices=("auto", "float32", "bfloat16", "float16"))
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / f"{name}.json", help="where the results go")
    return parser


def set_threads(threads: int) -> None:
    """Limit torch to so many threads."""
    import torch

    torch.set_num_threads(threads)


@dataclass(frozen=True, slots=True)
class WorkloadRequest:
    """One request of a workload file: greedy, exactly `max_tokens` new tokens, end of text suppressed.

    Attributes:
        id: its name in the file.
        prompt_ids: prompt token ids.
        max_tokens: new tokens.
        ref_ids: the tokens that greedy decoding in float32 gives.
    """

    id: str
    prompt_ids: tuple[int, ...]
    max_tokens: int
    ref_ids: tuple[int, ...]


def load_workload(path: Path, limit: int = 0) -> list[WorkloadRequest]:
    """The first `limit` requests (0: all) of a JSONL file, plain or .xz."""
    with lzma.open(path, "rt") if path.suffix == ".xz" else path.open() as lines:
        records = [json.loads(line) for line in lines]
    return [
        WorkloadRequest(r["id"], tuple(r["prompt_ids"]), r["max_tokens"], tuple(r["ref_ids"]))
        for r in (records[:limit] if limit else records)
    ]


def random_ids(source: random.Random, count: int, vocabulary: int) -> list[int]:
    """Random token ids. The first hundred ids, where special tokens live, are left out."""
    return [source.randrange(100, vocabulary) for _ in range(count)]


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, least and greatest of a list of measurements."""
    ordered = sorted(values)
    return {"median": median(ordered), "min": ordered[0], "max": ordered[-1]}


class Meter:
    """Wall time, CPU time and the load of the rest of the machine over a `with` block.

    Args:
        pids: other processes whose CPU time is ours.

    Attributes:
        wall_s: seconds.
        own_cpu_s: CPU seconds of this process and `pids`.
        other_cpu_cores: cores that the rest of the machine kept busy on average; NaN off Linux.
    """

    def __init__(self, pids: Sequence[int] = ()) -> None:
        self._pids = pids
        self.wall_s = self.own_cpu_s = self.other_cpu_cores = 0.0

    def __enter__(self) -> Meter:
        self._own, self._all, self._start = self._own_cpu(), _machine_cpu(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_s = time.perf_counter() - self._start
        self.own_cpu_s = self._own_cpu() - self._own
        self.other_cpu_cores = (_machine_cpu() - self._all - self.own_cpu_s) / self.wall_s

    def _own_cpu(self) -> float:
        return time.process_time() + sum(_process_cpu(pid) for pid in self._pids)


def wait_until_quiet(most_s: float, busy_cores: float = 0.5) -> float:
    """Wait, `most_s` seconds at most, until others use less than `busy_cores`; the last reading, over 2 s."""
    end = time.perf_counter() + most_s
    while True:
        with Meter() as meter:
            time.sleep(2)
        if meter.other_cpu_cores < busy_cores or time.perf_counter() >= end:
            return meter.other_cpu_cores


def _machine_cpu() -> float:
    """CPU seconds that the whole machine has spent working, idle and waiting left out."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return float("nan")
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields)
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _process_cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_rss_mb() -> int:
    """The most memory this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def machine() -> dict[str, Any]:
    """Cores, CPU model, Python and the packages that matter."""
    found: dict[str, Any] = {
        "cores": os.cpu_count(),
        "cpu": _cpu_model(),
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def model_label(name: str) -> str:
    """A model's name without the folders above it."""
    return "/".join(Path(name).parts[-2:])


def write_results(path: Path, payload: dict[str, Any], *, quiet: bool = False) -> None:
    """Write a benchmark's results, with the machine and the time, as one JSON object."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stamped = {"when": time.strftime("%Y-%m-%d %H:%M:%S"), "machine": machine(), **payload}
    path.write_text(json.dumps(stamped, indent=2) + "\n")
    if not quiet:
        print(f"results: {path}")
