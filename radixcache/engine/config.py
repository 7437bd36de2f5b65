"""How an engine is set up."""

from __future__ import annotations

from dataclasses import dataclass

from radixcache.engine.backends.split_plan import SPLIT
from radixcache.kv.formats import KV_DTYPES

_DEFAULT_CACHE_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Settings of an engine.

    Attributes:
        cache: reuse prefixes; off, every prompt is computed from its first token.
        block_size: tokens a KV block; a power of two up to 256.
        cache_tokens: room for KV in tokens; excludes cache_gb. By default 2 GiB on a CPU and
            80 % of the free memory on a GPU.
        cache_gb: room for KV in GiB.
        max_batch_tokens: token budget of a step, decodes first, then chunks of prefill.
        max_running: sequences that run at the same time.
        max_passes: steps that later arrivals with a longer cached prefix may overtake a
            waiting request.
        policy: eviction policy by name.
        explain: keep a bounded history to tell why a prompt missed.
        backend: "auto", "torch" or "triton": who moves and attends over KV.
        kv_dtype: what keys and values are stored as: "auto" (as the model computes them), "fp16", "bf16",
            or quantised by token: "fp8", "int8", or "int4" (values of 4 bits, keys of 6).
        graphs: on a GPU, record decode steps as CUDA graphs and replay them.
        invariant: outputs must not depend on what else runs: True refuses to start where that cannot be
            had, False is for speed, "auto" has it on a CPU, and on a GPU where it is cheap.

    Raises:
        ValueError: a setting is out of range; names it and its value.
    """

    cache: bool = True
    block_size: int = 16
    cache_tokens: int | None = None
    cache_gb: float | None = None
    max_batch_tokens: int = 512
    max_running: int = 64
    max_passes: int = 32
    policy: str = "lru"
    explain: bool = True
    backend: str = "auto"
    kv_dtype: str = "auto"
    graphs: bool = True
    invariant: bool | str = "auto"

    def __post_init__(self) -> None:
        if self.block_size < 1 or SPLIT % self.block_size:
            raise ValueError(f"block_size is {self.block_size}; it must be a power of two up to {SPLIT}")
        if self.cache_tokens is not None and self.cache_gb is not None:
            raise ValueError("give cache_tokens or cache_gb, not both")
        for name in ("cache_tokens", "cache_gb", "max_batch_tokens", "max_running"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} is {value}; it must be positive")
        if self.backend not in ("auto", "torch", "triton"):
            raise ValueError(f"backend is {self.backend!r}; it must be auto, torch or triton")
        if self.kv_dtype not in KV_DTYPES:
            raise ValueError(f"kv_dtype is {self.kv_dtype!r}; it must be one of {', '.join(KV_DTYPES)}")
        if not isinstance(self.invariant, bool) and self.invariant != "auto":
            raise ValueError(f'invariant must be True, False or "auto", got {self.invariant!r}')
        if self.max_passes < 0:
            raise ValueError(f"max_passes is {self.max_passes}; it must not be negative")

    def cache_bytes(self, free_gpu_bytes: int | None) -> int:
        """Bytes of KV to allocate when sized by memory; `free_gpu_bytes` is None on a CPU."""
        if self.cache_gb is not None:
            return int(self.cache_gb * (1 << 30))
        return _DEFAULT_CACHE_BYTES if free_gpu_bytes is None else int(free_gpu_bytes * 0.8)
