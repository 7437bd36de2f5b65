"""Which device and dtype to load a model in."""

from __future__ import annotations

import time
import warnings
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F

from radixcache.errors import ModelError
from radixcache.models.devices import with_index
from radixcache.models.gpu import kernel_fault

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_BUDGET = 0.2  # seconds of timing
_ROUNDS = 25
_MARGIN = 0.9
_DECODE, _PREFILL = 1, 64  # rows
_TOO_SMALL, _WIDEST = 256, 1024  # below, a product is all overhead; above, timing it takes too long


def choose_device(device: str) -> torch.device:
    """`auto` is the first CUDA device if there is one and our kernels run on it, else the CPU.

    Any other name that torch knows is taken as it is.

    Raises:
        ModelError: no such device here.
    """
    if device == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        fault = kernel_fault("cuda:0")
        if fault is None:
            return torch.device("cuda:0")
        warnings.warn(f"the GPU is not used, since our kernels do not run on it: {fault}", stacklevel=2)
        return torch.device("cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"device {device!r} is not auto, cpu or cuda") from error
    if chosen.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (chosen.index or 0) >= count:
            raise ModelError(f"device {device!r} asked for, but torch finds {count} CUDA devices")
    return with_index(chosen)


def choose_dtype(dtype: str, device: torch.device, config: Any) -> torch.dtype:
    """The dtype asked for; `auto` is what serves best on `device`.

    On a GPU `auto` is the checkpoint's own half precision, or bfloat16. On a CPU it is float32, or bfloat16
    if that is measured to be clearly faster at the model's width (it is on CPUs with matrix units for it,
    and several times slower on those without).

    Raises:
        ModelError: no such dtype.
    """
    if dtype != "auto":
        if dtype not in DTYPES:
            raise ModelError(f"dtype {dtype!r} is not one of auto, {', '.join(DTYPES)}")
        return DTYPES[dtype]
    if device.type != "cpu":
        own = getattr(config, "dtype", None)
        return own if own in (torch.bfloat16, torch.float16) else torch.bfloat16
    width = getattr(config.get_text_config(), "hidden_size", 0)
    return fastest_dtype(width) if width >= _TOO_SMALL else torch.float32


@lru_cache(maxsize=8)
def fastest_dtype(width: int) -> torch.dtype:
    """float32 or bfloat16, by timing a `[rows, width] x [width, 4 * width]` product on this CPU.

    bfloat16 must win clearly both at one row (decoding) and at 64 rows (prefill): it gives up precision, and
    a CPU without units for it can still be ahead at one row, where only the bytes read count. Takes about
    0.2 s, once for each width; widths above `_WIDEST` are timed at that width.
    """
    times = _times(min(width, _WIDEST))
    wins = all(
        times[torch.bfloat16, rows] < _MARGIN * times[torch.float32, rows] for rows in (_DECODE, _PREFILL)
    )
    return torch.bfloat16 if wins else torch.float32


def _times(width: int) -> dict[tuple[torch.dtype, int], float]:
    """Best seconds of a product by dtype and rows; the cases take turns, so that noise hits all alike."""
    cases: dict[tuple[torch.dtype, int], tuple[torch.Tensor, torch.Tensor]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        weight = torch.zeros(4 * width, width, dtype=dtype)
        for rows in (_DECODE, _PREFILL):
            cases[dtype, rows] = torch.zeros(rows, width, dtype=dtype), weight
    best = dict.fromkeys(cases, float("inf"))
    end = time.perf_counter() + _BUDGET
    with torch.inference_mode():
        for activations, weight in cases.values():
            F.linear(activations, weight)  # the first call sets the library up
        for _ in range(_ROUNDS):
            for case, (activations, weight) in cases.items():
                start = time.perf_counter()
                F.linear(activations, weight)
                best[case] = min(best[case], time.perf_counter() - start)
            if time.perf_counter() > end:
                break
    return best
