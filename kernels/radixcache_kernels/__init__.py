"""Triton kernels over a paged key/value pool: write, copy, attend. Depends on torch and triton only.

A pool is, for each layer, one key and one value tensor `[num_blocks, block_size, kv_heads, head_dim]`, of a
float type or of codes with scales beside them (kv_format.py).
Token t of a sequence lies in block `block_table[t // block_size]` at offset `t % block_size`.

Without a GPU, set TRITON_INTERPRET=1 before the first import of triton: the same kernels then run, slowly,
on CPU tensors. RADIXCACHE_DEBUG=1 makes every call check its block ids on the host first.
"""

from radixcache_kernels.attention import paged_attention
from radixcache_kernels.block_copy import copy_blocks
from radixcache_kernels.block_gather import gather_blocks, scatter_blocks
from radixcache_kernels.checks import KernelInputError
from radixcache_kernels.jit import INTERPRETED
from radixcache_kernels.kv_write import write_kv
from radixcache_kernels.plan import AttentionPlan
from radixcache_kernels.plan_device import DevicePlan, PlanCapacity, PlanOverflowError
from radixcache_kernels.planner import AttentionPlanner
from radixcache_kernels.tiles import SPLIT_TOKENS, PlanOptions, Tile, Tiles, plan_options

__all__ = [
    "INTERPRETED",
    "SPLIT_TOKENS",
    "AttentionPlan",
    "AttentionPlanner",
    "DevicePlan",
    "KernelInputError",
    "PlanCapacity",
    "PlanOptions",
    "PlanOverflowError",
    "Tile",
    "Tiles",
    "copy_blocks",
    "gather_blocks",
    "paged_attention",
    "plan_options",
    "scatter_blocks",
    "write_kv",
]
