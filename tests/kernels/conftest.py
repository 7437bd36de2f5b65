"""Without a GPU the kernels run in triton's interpreter; with one the same tests run them compiled."""

import os
import sys
from collections.abc import Iterator

import pytest
import torch

from tests.interpreter import interpreter_fault, ordered_products

if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
    if "triton" in sys.modules:
        raise pytest.UsageError(
            "triton was imported before tests/kernels chose its interpreter: run with TRITON_INTERPRET=1"
        )
    os.environ["TRITON_INTERPRET"] = "1"

if not torch.cuda.is_available() and (fault := interpreter_fault()) is not None:
    raise pytest.UsageError(fault)


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="session", autouse=True)
def _ordered_products() -> Iterator[None]:
    with ordered_products():
        yield


@pytest.fixture(autouse=True)
def _skip_without_gpu(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Fresh tensors hold NaN, so that a partial result read but never written shows."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(8).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def few_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials of few row counts where each takes the interpreter a while."""
    if not torch.cuda.is_available():
        from radixcache_kernels import same_bits, same_bits_attention

        monkeypatch.setattr(same_bits, "COUNTS", (1, 5, 12))
        monkeypatch.setattr(same_bits_attention, "ROWS", 12)
        monkeypatch.setattr(same_bits_attention, "EXTRA", 20)
