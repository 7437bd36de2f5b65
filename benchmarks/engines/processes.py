"""Starts one engine on one case in a process of its own and reads its line of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

OURS = "radixcache"
_CHECKOUT = Path(__file__).parents[2]


class Driver(NamedTuple):
    """How another engine is run: its virtual environment, its script, what it needs on the command line."""

    venv: str
    script: str
    options: tuple[str, ...] = ()


DRIVERS = {
    "vllm": Driver("venv-vllm", "peer_vllm.py", ("--eager",)),
    "hf-cb": Driver("venv-hf", "peer_hf_cb.py"),
    "hf-generate": Driver("venv-hf", "peer_hf_generate.py"),
}


class Case(NamedTuple):
    """What is run: a workload by its short name, requests in flight, cache on or off, requests (0: all)."""

    workload: str
    concurrency: int
    cache: str
    limit: int

    def __str__(self) -> str:
        requests = f", {self.limit} requests" if self.limit else ""
        return f"{self.workload} at {self.concurrency}, cache {self.cache}{requests}"


class Outcome(NamedTuple):
    """A run's line, or why there is none; `fatal` if no other case of this engine can work either."""

    line: dict[str, Any] | None
    error: str = ""
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class Launcher:
    """Runs engines.

    Attributes:
        peers_dir: holds the peers' virtual environments and the models.
        scripts: holds the peers' drivers and the workloads.
        dtype: `fp32` or `bf16`.
        threads: torch threads of each engine.
        timeout_s: seconds until a run is given up.
    """

    peers_dir: Path
    scripts: Path
    dtype: str
    threads: int
    timeout_s: float

    def serves(self, engine: str, case: Case) -> bool:
        """Whether the engine has this mode: `generate` batches only whole groups, without a cache."""
        return engine != "hf-generate" or case.concurrency == 1 or case.cache == "off"

    def run(self, engine: str, case: Case) -> Outcome:
        """Run one case."""
        workload = self.scripts / f"workload-{case.workload}.jsonl.xz"
        if not workload.is_file():
            return Outcome(None, f"{workload.name} is not in the folder of peer scripts")
        python, command, folder = self._command(engine)
        for needed in (python, folder / command[0] if engine in DRIVERS else folder):
            if not needed.exists():
                return Outcome(None, f"{'/'.join(needed.parts[-3:])} is missing", fatal=True)
        with tempfile.TemporaryDirectory(prefix="radixcache-bench-") as out:
            command += ["--workload", str(workload), "--concurrency", str(case.concurrency)]
            command += ["--cache", case.cache, "--limit", str(case.limit), "--dtype", self.dtype]
            command += ["--threads", str(self.threads), "--out", out]
            return self._start([str(python), *command], folder)

    def _command(self, engine: str) -> tuple[Path, list[str], Path]:
        """Interpreter, its arguments, and the folder to start in."""
        if engine == OURS:
            return Path(sys.executable), ["-m", "benchmarks.engines.peer_radixcache"], _CHECKOUT
        driver = DRIVERS[engine]
        python = self.peers_dir / driver.venv / "bin" / "python"
        return python, [driver.script, *driver.options], self.scripts

    def _start(self, command: list[str], folder: Path) -> Outcome:
        environment = {
            **os.environ,
            "PEERS_DIR": str(self.peers_dir),
            "OMP_NUM_THREADS": str(self.threads),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=self.timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Outcome(None, f"not done after {self.timeout_s:.0f} s")
        except OSError as error:
            return Outcome(None, str(error), fatal=True)
        lines = [line for line in done.stdout.splitlines() if line.startswith('{"peer"')]
        if done.returncode or not lines:
            said = [line for line in done.stderr.splitlines() if line.strip()]
            return Outcome(None, f"status {done.returncode}: {said[-1] if said else 'nothing said'}")
        return Outcome(json.loads(lines[-1]))
