"""What sampling costs a step: rows of logits to tokens, for several batch sizes and vocabularies.

Another checkout (`--base`) can take turns with this one, each in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common import Meter, arguments, set_threads, write_results

HERE = Path(__file__).resolve().parent.parent
KINDS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "temperature": {"temperature": 0.7},
    "top-p": {"temperature": 0.7, "top_p": 0.9},
    "top-p, penalties, logprobs": {
        "temperature": 0.7,
        "top_p": 0.9,
        "repetition_penalty": 1.1,
        "frequency_penalty": 0.2,
        "logprobs": 5,
    },
}
VOCABULARIES = (49_152, 128_256)
ROWS = (1, 8, 64)
PROMPT = 1000
OUTPUT = 100


def main() -> None:
    """Measure, print and write."""
    parser = arguments("sampling", __doc__, model=None)
    parser.add_argument("--device", default="cpu", help="where the logits are: cpu or cuda")
    parser.add_argument("--base", type=Path, help="another checkout to compare with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", action="store_true", help="answer cases from standard input")
    options = parser.parse_args()
    if options.worker:
        _work(options.threads, options.device, options.seed)
        return
    checkouts = {"now": HERE} | ({} if options.base is None else {"base": options.base.resolve()})
    workers = {name: _Worker(folder, options) for name, folder in checkouts.items()}
    results = []
    with Meter(pids=[worker.pid for worker in workers.values()]) as meter:
        for vocabulary in VOCABULARIES:
            for rows in ROWS:
                for kind in KINDS:
                    case = {"vocabulary": vocabulary, "rows": rows, "kind": kind}
                    results.append(case | _measured(workers, case, options.rounds))
                    print(_line(results[-1]), flush=True)
    for worker in workers.values():
        worker.close()
    print(f"others used {meter.other_cpu_cores:.1f} cores")
    write_results(
        options.out,
        {
            "device": options.device,
            "threads": options.threads,
            "rounds": options.rounds,
            "prompt_tokens": PROMPT,
            "output_tokens": OUTPUT,
            "cases": results,
            "other_cpu_cores": meter.other_cpu_cores,
        },
    )


class _Worker:
    """A process that measures cases with the package of one checkout."""

    def __init__(self, folder: Path, options: Any) -> None:
        command = [sys.executable, str(Path(__file__).resolve()), "--worker"]
        command += [
            "--threads",
            str(options.threads),
            "--device",
            options.device,
            "--seed",
            str(options.seed),
        ]
        path = os.pathsep.join([str(folder), str(HERE)])
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
        )
        self.pid = self._process.pid

    def measure(self, case: dict[str, Any]) -> dict[str, float]:
        """Milliseconds of wall time and of the processor for a step of the case."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(case) + "\n")
        self._process.stdin.flush()
        answer: dict[str, float] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def _measured(workers: dict[str, _Worker], case: dict[str, Any], rounds: int) -> dict[str, Any]:
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
    for turn in range(rounds):
        order = list(workers.items())
        for name, worker in order if turn % 2 == 0 else reversed(order):
            taken[name].append(worker.measure(case))
    return {
        name: {unit: round(median(each[unit] for each in all_), 4) for unit in ("wall_ms", "cpu_ms")}
        for name, all_ in taken.items()
    }


def _line(result: dict[str, Any]) -> str:
    start = f"{result['vocabulary']:>8,} x {result['rows']:<3} {result['kind']:<28}"
    now = result["now"]
    text = f"{start} {now['wall_ms']:9.3f} ms, processor {now['cpu_ms']:9.3f} ms"
    if "base" not in result:
        return text
    base = result["base"]
    ratios = (base[unit] / now[unit] for unit in ("wall_ms", "cpu_ms"))
    return text + "; base / now {:.2f} and {:.2f}".format(*ratios)


def _work(threads: int, device: str, seed: int) -> None:
    """Answer each case from standard input with the milliseconds of a step."""
    import torch

    set_threads(threads)
    for line in sys.stdin:
        case = json.loads(line)
        generator = torch.Generator().manual_seed(seed)
        shape = (case["rows"], case["vocabulary"])
        logits = torch.randn(shape, generator=generator) * 2.5
        # As a language model's: a few dozen tokens stand out.
        places = torch.randint(0, shape[1], (shape[0], 40), generator=generator)
        logits.scatter_(1, places, torch.rand(places.shape, generator=generator) * 8 + 10)
        print(json.dumps(_timed(logits.to(device), KINDS[case["kind"]])), flush=True)


def _timed(logits: Any, settings: dict[str, Any]) -> dict[str, float]:
    from radixcache import SamplingParams

    module = import_module("radixcache.engine.sampling")
    if not hasattr(module, "sample"):  # where it was in older commits
        module = import_module("radixcache.engine.sampling.sampler")
    sample = module.sample
    samplers = []
    for index in range(len(logits)):
        params = SamplingParams(**settings, max_tokens=10**6, seed=index)
        sampler = module.Sampler(params, range(100, 100 + PROMPT), ())
        for token in range(OUTPUT):
            sampler.note(token * 7)
        samplers.append(sampler)
    sample(logits, samplers)
    steps = 0
    start, busy = time.perf_counter(), time.process_time()
    while steps < 2 or time.perf_counter() - start < 0.1:
        sample(logits, samplers)
        steps += 1
    return {
        "wall_ms": 1e3 * (time.perf_counter() - start) / steps,
        "cpu_ms": 1e3 * (time.process_time() - busy) / steps,
    }


if __name__ == "__main__":
    main()
