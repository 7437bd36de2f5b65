"""What every test finds: quiet threads, the shared logs where they are, the embedded model."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

# Threads that spin while they wait starve the other test process on a small machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest

from radixcache.numerics.blas import request_reproducible_blas

# MKL reads it at a process's first product, which may be any test's.
request_reproducible_blas()

if find_spec("torch") is not None:  # the control plane's tests also run in environments without it
    import torch

    if not torch.cuda.is_available():
        # Must be set before anything imports triton.
        os.environ.setdefault("TRITON_INTERPRET", "1")

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real prompt logs; tests that need it skip where it is absent."""
    if not DATA.is_dir():
        pytest.skip("the shared prompt logs are not beside this checkout (../shared/data)")
    return DATA
