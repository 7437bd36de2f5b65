"""`auto` takes a GPU only if our kernels run there."""

from __future__ import annotations

import pytest
import torch

from radixcache.models import dtypes
from radixcache.models.gpu import kernel_fault


def test_auto_without_cuda_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert dtypes.choose_device("auto") == torch.device("cpu")


def test_auto_takes_a_gpu_on_which_the_kernels_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(dtypes, "kernel_fault", lambda device: None)
    assert dtypes.choose_device("auto") == torch.device("cuda:0")


def test_auto_leaves_a_gpu_alone_on_which_they_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(dtypes, "kernel_fault", lambda device: "no machine code for it")
    with pytest.warns(UserWarning, match="no machine code for it"):
        assert dtypes.choose_device("auto") == torch.device("cpu")


def test_kernels_that_work_have_no_fault() -> None:
    kernel_fault.cache_clear()
    assert kernel_fault("cuda" if torch.cuda.is_available() else "cpu") is None


def test_a_fault_is_told_in_one_line() -> None:
    fault = kernel_fault("cuda:99")
    assert fault is not None
    assert "\n" not in fault
