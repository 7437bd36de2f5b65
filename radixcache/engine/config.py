"""How an engine is set up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from radixcache.cache.eviction import policies
from radixcache.kv.formats import KV_DTYPES
from radixcache.ranges import check_bool, check_int, is_number
from radixcache.sizes import GIB, parse_bytes
from radixcache_kernels.splits import SPLIT_TOKENS

_DEFAULT_CACHE_BYTES = 2 * GIB
_BACKENDS = ("auto", "torch", "triton")
_MOST = 1 << 40  # of anything that is counted


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Settings of an engine.

    Attributes:
        cache: reuse prefixes; off, every prompt is computed from its first token.
        block_size: tokens a KV block; a power of two up to 256.
        cache_tokens: room for KV in tokens. By default 2 GiB on a CPU and 80 % of the free memory on a GPU.
        cache_gb: the same in GiB; older form of cache_memory.
        cache_memory: the same in bytes, or as text such as "4GB" (4 x 10^9 bytes) or "4GiB" (4 x 2^30). At
            most one of the three is given.
        max_batch_tokens: token budget of a step, decodes first, then chunks of prefill.
        max_running: sequences that run at the same time.
        max_waiting: requests that may wait beside those that there is room for; one more is refused. None for
            any number.
        max_passes: steps that later arrivals with a longer cached prefix may overtake a
            waiting request.
        policy: eviction policy by name.
        explain: keep a bounded history to tell why a prompt missed.
        backend: "auto", "torch" or "triton": what moves KV and attends over it.
        kv_dtype: what keys and values are stored as: "auto" (as the model computes them), "fp16", "bf16",
            or quantised by token: "fp8", "int8", or "int4" (values of 4 bits, keys of 6).
        graphs: on a GPU, record decode steps as CUDA graphs and replay them.
        invariant: compute so that a request's answer has the same bits alone or in any batch, hit or miss.
            True refuses to start where that cannot be had, False is for speed; "auto" has it on a CPU
            wherever trials find a way, and on a GPU where it costs little. `EngineStats.variance` tells.

    Raises:
        ValueError: a setting is out of range or of the wrong type; names it and its value.
    """

    cache: bool = True
    block_size: int = 16
    cache_tokens: int | None = None
    cache_gb: float | None = None
    max_batch_tokens: int = 512
    max_running: int = 64
    max_waiting: int | None = None
    max_passes: int = 32
    policy: str = "lru"
    explain: bool = True
    backend: str = "auto"
    kv_dtype: str = "auto"
    graphs: bool = True
    invariant: bool | Literal["auto"] = "auto"
    cache_memory: int | str | None = None

    def __post_init__(self) -> None:
        for name in ("cache", "explain", "graphs"):
            check_bool(name, getattr(self, name))
        for name, least in (
            ("block_size", 1),
            ("max_batch_tokens", 1),
            ("max_running", 1),
            ("max_passes", 0),
        ):
            self._set(name, check_int(name, getattr(self, name), least=least, most=_MOST))
        if self.max_waiting is not None:
            self._set("max_waiting", check_int("max_waiting", self.max_waiting, least=0, most=_MOST))
        if SPLIT_TOKENS % self.block_size:
            raise ValueError(f"block_size must be a power of two up to {SPLIT_TOKENS}, got {self.block_size}")
        sizes = [n for n in ("cache_tokens", "cache_gb", "cache_memory") if getattr(self, n) is not None]
        if len(sizes) > 1:
            raise ValueError(f"give {' or '.join(sizes)}, not both")
        if isinstance(self.cache_memory, str):
            self._set("cache_memory", parse_bytes("cache_memory", self.cache_memory))
        elif self.cache_memory is not None:
            self._set("cache_memory", check_int("cache_memory", self.cache_memory, least=1))
        if self.cache_tokens is not None:
            self._set("cache_tokens", check_int("cache_tokens", self.cache_tokens, least=1, most=_MOST))
        if self.cache_gb is not None and not (is_number(self.cache_gb) and 0 < self.cache_gb < _MOST):
            raise ValueError(f"cache_gb must be a number above 0, got {self.cache_gb!r}")
        for name, names in (("policy", policies), ("backend", _BACKENDS), ("kv_dtype", KV_DTYPES)):
            value = getattr(self, name)
            if not isinstance(value, str) or value not in names:
                raise ValueError(f"{name} must be one of {', '.join(names)}, got {value!r}")
        if not isinstance(self.invariant, bool) and self.invariant != "auto":
            raise ValueError(f"invariant must be True, False or 'auto', got {self.invariant!r}")

    def _set(self, name: str, value: int) -> None:
        object.__setattr__(self, name, value)

    def cache_bytes(self, free_gpu_bytes: int | None) -> int:
        """Bytes of KV to allocate when sized by memory; `free_gpu_bytes` is None on a CPU."""
        if isinstance(self.cache_memory, int):
            return self.cache_memory
        if self.cache_gb is not None:
            return int(self.cache_gb * GIB)
        return _DEFAULT_CACHE_BYTES if free_gpu_bytes is None else int(free_gpu_bytes * 0.8)
