"""Asks the CPU's BLAS for results that do not depend on a product's row count.

MKL reads the request at the process's first matrix product, so it must come before that.
"""

from __future__ import annotations

import os
from pathlib import Path


def request_reproducible_blas() -> None:
    """Select MKL's strict conditional reproducibility unless the user chose a mode already.

    In that mode a row of a float32 product has the same bits at every row count and thread
    count, and small products run no slower. Where MKL is absent or ignores the request,
    `radixcache.engine.invariance` finds out by trying.
    """
    os.environ.setdefault("MKL_CBWR", f"{_widest_vectors()},STRICT")


def _widest_vectors() -> str:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return "AVX2"
    return "AVX512" if "avx512f" in flags else "AVX2"
