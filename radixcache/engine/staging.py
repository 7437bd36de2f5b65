"""Copies between host and device through pinned memory, queued on the stream without waiting."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IntArray = NDArray[np.integer[Any]]
NumberArray = NDArray[np.integer[Any]] | NDArray[np.floating[Any]]


def to_device(array: NumberArray, device: torch.device, *, into: Tensor | None = None) -> Tensor:
    """The array on `device`, in a new tensor or in `into` (same shape and dtype); waits for nothing.

    On a CPU a new tensor shares the array's memory.
    """
    staged = torch.from_numpy(array)
    if device.type == "cuda":
        # torch reuses pinned memory only after the copies from it are done.
        pinned = torch.empty(staged.shape, dtype=staged.dtype, pin_memory=True)
        pinned.copy_(staged)
        staged = pinned
    if into is None:
        return staged.to(device, non_blocking=True)
    return into.copy_(staged, non_blocking=True)


def to_host(tensor: Tensor) -> Tensor:
    """The tensor on the host, through pinned memory; waits for what was queued before it, and no more."""
    if tensor.device.type != "cuda":
        return tensor.cpu()
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    pinned.copy_(tensor, non_blocking=True)
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record()
    done.synchronize()
    return pinned
