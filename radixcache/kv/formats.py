"""Names of what keys and values can be stored as; the formats are defined in `radixcache_kernels.formats`."""

from __future__ import annotations

import torch

KV_DTYPES = ("auto", "fp16", "bf16", "fp8", "int8", "int4")
"""Names of storage formats; `auto` stores what the model computes."""

_STORED = {
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8": torch.float8_e4m3fn,
    "int8": torch.int8,
    "int4": torch.uint8,
}


def stored_dtype(kv_dtype: str, dtype: torch.dtype) -> torch.dtype:
    """The element type in the pool for a model that computes in `dtype`.

    Raises:
        ValueError: an unknown name.
    """
    if kv_dtype == "auto":
        return dtype
    if kv_dtype not in _STORED:
        raise ValueError(f"kv_dtype must be one of {', '.join(KV_DTYPES)}, got {kv_dtype!r}")
    return _STORED[kv_dtype]
