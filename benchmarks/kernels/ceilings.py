"""What the device itself can do, measured in the same run: copy bandwidth and matrix products."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from benchmarks.kernels.timing import time_calls


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Limits of the device.

    Attributes:
        copy_bytes_per_s: bytes read plus bytes written by a plain copy much larger than L2.
        read_bytes_per_s: bytes read by a sum over them, which is all that decoding does; for information.
        matmul_flops: floating-point operations a second of a large product in the benchmark's dtype.
    """

    copy_bytes_per_s: float
    read_bytes_per_s: float
    matmul_flops: float


def measure_ceilings(device: torch.device, dtype: torch.dtype, *, tiny: bool) -> Ceilings:
    """Measure them; takes about two seconds on a GPU."""
    size = 1 << 20 if tiny else 2 << 30
    copy, read = _bandwidths(size, device)
    edge = 64 if tiny else 8192
    left = torch.randn(edge, edge, device=device).to(dtype)
    right = torch.randn(edge, edge, device=device).to(dtype)
    multiplied = time_calls([lambda: left @ right], device, 0.5)
    return Ceilings(copy, read, 2 * edge**3 / multiplied.median_s)


def _bandwidths(size: int, device: torch.device) -> tuple[float, float]:
    """Bytes a second of a copy, read and written, and of a sum, both over `size` bytes."""
    source = torch.zeros(size // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    copied = time_calls([lambda: target.copy_(source)], device, 0.5)
    read = time_calls([lambda: torch.sum(source, dtype=torch.float32)], device, 0.3)
    return 2 * size / copied.median_s, size / read.median_s
