"""Rows keep their bits on CPUs with other instructions and other numbers of threads than this one.

Libraries are limited to what a smaller CPU has, in a process of their own, since they read their limits once.
Each process takes a part of the models and types, and each limit has every one of them in some process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.thorough import THOROUGH

ROOT = Path(__file__).parents[2]

# What oneDNN, MKL and torch's own kernels are limited to, from the least.
LIMITS = {
    "sse": {
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "ATEN_CPU_CAPABILITY": "default",
    },
    "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    "avx512": {
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "MKL_ENABLE_INSTRUCTIONS": "AVX512",
        "ATEN_CPU_CAPABILITY": "avx512",
    },
    "avx512-bf16": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"},
    "all": {},
}
NEEDS = {"sse": "sse4_2", "avx2": "avx2", "avx512": "avx512f", "avx512-bf16": "avx512_bf16", "all": ""}
MODES = {
    "as it is": {},
    "compatible": {"MKL_CBWR": "COMPATIBLE"},
    "not strict": {"MKL_CBWR": "AUTO"},
}
# Limit, mode, threads, and which part of how many of the architectures; smaller parts unless thorough.
CASES = [
    ("all", "as it is", 2, 0, 4),
    ("all", "product first", 4, 1, 4),
    ("all", "compatible", 1, 2, 4),
    ("all", "not strict", 2, 3, 4),
    ("sse", "as it is", 1, 0, 2),
    ("sse", "as it is", 2, 1, 2),
    ("avx2", "as it is", 4, 0, 2),
    ("avx2", "as it is", 1, 1, 2),
    ("avx512", "as it is", 1, 0, 2),
    ("avx512", "as it is", 2, 1, 2),
    ("avx512-bf16", "as it is", 2, 0, 1),
]


def cpu_flags() -> set[str]:
    """What this CPU says it has; empty where the system does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return set()
    return {flag for line in text.splitlines() if line.startswith("flags") for flag in line.split()}


@pytest.mark.parametrize(("limit", "mode", "threads", "part", "parts"), CASES)
def test_rows_keep_their_bits_within_limits(
    limit: str, mode: str, threads: int, part: int, parts: int, tmp_path: Path
) -> None:
    if NEEDS[limit] and NEEDS[limit] not in cpu_flags():
        pytest.skip(f"this CPU has no {NEEDS[limit]}")
    seed = CASES.index((limit, mode, threads, part, parts))
    environment = {
        **{
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("MKL_", "ONEDNN_", "ATEN_"))
        },
        **LIMITS[limit],
        **MODES.get(mode, {}),
        "RADIXCACHE_HOME": str(tmp_path),  # nothing is remembered of another run
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    parts = parts if THOROUGH else max(parts, min(4, 2 * parts))
    command = [sys.executable, "-m", "tests.engine.bits_worker", *map(str, (threads, seed, part, parts))]
    if mode == "product first":
        command.append("--product-first")
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(lines) > 10
    rows = sum(line["rows"] for line in lines)
    print(f"{limit}, {mode}, {threads} threads: {rows} rows in {len(lines)} cases")
    assert [line for line in lines if line["variance"]] == []
    assert [line for line in lines if line["differing"]] == []
