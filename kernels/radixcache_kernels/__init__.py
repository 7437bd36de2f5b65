"""Triton kernels: a paged key/value pool (write, copy, attend) and layers whose rows stay independent.

Depends on torch, numpy and triton only, and imports triton with the first kernel that is asked for:
`radixcache_kernels.formats` (storage formats), `.splits` and `.planner` (work lists) need no triton.

A pool is, for each layer, one key and one value tensor `[num_blocks, block_size, kv_heads, head_dim]`, of a
float type or of codes with scales beside them (formats.py).
Token t of a sequence is in block `block_table[t // block_size]` at offset `t % block_size`.

Without a GPU, set TRITON_INTERPRET=1 before the first import of triton: the same kernels then run, slowly,
on CPU tensors. RADIXCACHE_DEBUG=1 makes every call check its block ids on the host first.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from radixcache_kernels.attention import paged_attention
    from radixcache_kernels.block_copy import copy_blocks
    from radixcache_kernels.block_gather import gather_blocks, scatter_blocks
    from radixcache_kernels.checks import KernelInputError
    from radixcache_kernels.jit import INTERPRETED
    from radixcache_kernels.kv_write import write_kv
    from radixcache_kernels.linear import invariant_linear
    from radixcache_kernels.linear_tiling import LinearTile, choose_linear_tile, linear_tiles
    from radixcache_kernels.log_softmax import invariant_log_softmax
    from radixcache_kernels.norms import invariant_layer_norm, invariant_rms_norm
    from radixcache_kernels.plan import AttentionPlan
    from radixcache_kernels.plan_device import DevicePlan, PlanCapacity, PlanOverflowError
    from radixcache_kernels.planner import AttentionPlanner
    from radixcache_kernels.same_bits import LinearShape, linear_bits, row_bits
    from radixcache_kernels.same_bits_attention import AttentionShape, attention_bits
    from radixcache_kernels.splits import SPLIT_TOKENS
    from radixcache_kernels.tiles import PlanOptions, Tile, Tiles, plan_options

_MODULES = {
    "paged_attention": "attention",
    "copy_blocks": "block_copy",
    "gather_blocks": "block_gather",
    "scatter_blocks": "block_gather",
    "KernelInputError": "checks",
    "INTERPRETED": "jit",
    "write_kv": "kv_write",
    "invariant_linear": "linear",
    "LinearTile": "linear_tiling",
    "choose_linear_tile": "linear_tiling",
    "linear_tiles": "linear_tiling",
    "invariant_log_softmax": "log_softmax",
    "invariant_layer_norm": "norms",
    "invariant_rms_norm": "norms",
    "AttentionPlan": "plan",
    "DevicePlan": "plan_device",
    "PlanCapacity": "plan_device",
    "PlanOverflowError": "plan_device",
    "AttentionPlanner": "planner",
    "LinearShape": "same_bits",
    "linear_bits": "same_bits",
    "row_bits": "same_bits",
    "AttentionShape": "same_bits_attention",
    "attention_bits": "same_bits_attention",
    "PlanOptions": "tiles",
    "SPLIT_TOKENS": "splits",
    "Tile": "tiles",
    "Tiles": "tiles",
    "plan_options": "tiles",
}
"""The module of every public name."""

__all__ = [
    "INTERPRETED",
    "SPLIT_TOKENS",
    "AttentionPlan",
    "AttentionPlanner",
    "AttentionShape",
    "DevicePlan",
    "KernelInputError",
    "LinearShape",
    "LinearTile",
    "PlanCapacity",
    "PlanOptions",
    "PlanOverflowError",
    "Tile",
    "Tiles",
    "attention_bits",
    "choose_linear_tile",
    "copy_blocks",
    "gather_blocks",
    "invariant_layer_norm",
    "invariant_linear",
    "invariant_log_softmax",
    "invariant_rms_norm",
    "linear_bits",
    "linear_tiles",
    "paged_attention",
    "plan_options",
    "row_bits",
    "scatter_blocks",
    "write_kv",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "triton"):
            raise
        raise ImportError(
            'radixcache_kernels needs torch and triton (Linux only): pip install "radixcache[engine]"'
        ) from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
