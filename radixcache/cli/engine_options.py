"""Options of an engine, checked before torch is imported, let alone a model loaded."""

from __future__ import annotations

import math
import re
from enum import StrEnum

from radixcache.sizes import GIB

__all__ = ["DType", "Invariant", "KVDType", "cache_bytes", "check_engine_options"]

_LARGEST_BLOCK = 256
_DEVICES = re.compile(r"auto|(cpu|cuda|mps|xpu)(:\d{1,3})?")


class DType(StrEnum):
    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class KVDType(StrEnum):
    AUTO = "auto"
    FP16 = "fp16"
    BF16 = "bf16"
    FP8 = "fp8"
    INT8 = "int8"
    INT4 = "int4"


class Invariant(StrEnum):
    AUTO = "auto"
    ON = "on"
    OFF = "off"


def check_engine_options(*, device: str, block_size: int, cache_tokens: int | None) -> None:
    """Refuse, with ValueError naming the option, what no engine could be made with."""
    if not _DEVICES.fullmatch(device):
        raise ValueError(f"--device must be auto, cpu, cuda or one such as cuda:1, got {device!r}")
    if not 1 <= block_size <= _LARGEST_BLOCK or block_size & (block_size - 1):
        raise ValueError(f"--block-size must be a power of two up to {_LARGEST_BLOCK}, got {block_size}")
    if cache_tokens is not None and cache_tokens < block_size:
        raise ValueError(f"--cache-tokens must be at least {block_size}, one block, got {cache_tokens}")


def cache_bytes(*, cache_memory: int | None, cache_tokens: int | None, cache_gb: float | None) -> int | None:
    """Bytes of the cache where they are given, in either spelling.

    Raises:
        ValueError: the options exclude each other, or --cache-gb is not a number above 0.
    """
    given = [
        name
        for name, value in (
            ("--cache-memory", cache_memory),
            ("--cache-tokens", cache_tokens),
            ("--cache-gb", cache_gb),
        )
        if value is not None
    ]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} exclude each other")
    if cache_gb is None:
        return cache_memory
    if not (math.isfinite(cache_gb) and cache_gb > 0):
        raise ValueError(f"--cache-gb must be a number above 0, got {cache_gb:g}")
    return max(1, round(cache_gb * GIB))
