"""Whether a cache fits the device's memory, found out before and while it is allocated."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from radixcache.sizes import GIB

if TYPE_CHECKING:
    import torch

__all__ = ["allocating", "check_room"]

_EXHAUSTED = re.compile("out of memory|allocate memory")


def check_room(
    device: torch.device,
    *,
    cache_tokens: int | None = None,
    cache_memory: int | None = None,
    bytes_per_token: int = 1,
) -> None:
    """Refuse a cache larger than all memory of its device.

    Args:
        device: where the cache will be.
        cache_tokens, cache_memory: its size in tokens or bytes, at most one of them given.
        bytes_per_token: of keys and values; 1, the least there is, while the model is not known.

    Raises:
        ValueError: naming the setting and the memory there is.
    """
    memory = _memory_bytes(device)
    if cache_memory is not None and cache_memory > memory:
        most, got = (f"{size / GIB:,.1f} GiB" for size in (memory, cache_memory))
        raise ValueError(f"the cache must be at most {most}, the memory of {device}, got {got}")
    if cache_tokens is not None and cache_tokens * bytes_per_token > memory:
        most = f"{memory // bytes_per_token:,}"
        raise ValueError(f"cache_tokens must be at most {most}, the memory of {device}, got {cache_tokens:,}")


@contextmanager
def allocating(device: torch.device) -> Iterator[None]:
    """Turn an allocator's refusal into ValueError of one line."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch raises a plain RuntimeError where the memory of a CPU is exhausted.
        if isinstance(error, RuntimeError) and not _EXHAUSTED.search(str(error)):
            raise
        raise ValueError(f"the cache does not fit in the free memory of {device}") from error


def _memory_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        import torch

        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
