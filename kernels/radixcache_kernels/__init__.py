"""Triton kernels: a paged key/value pool (write, copy, attend) and layers whose rows stay independent.

Depends on torch and triton only.

A pool is, for each layer, one key and one value tensor `[num_blocks, block_size, kv_heads, head_dim]`, of a
float type or of codes with scales beside them (kv_format.py).
Token t of a sequence lies in block `block_table[t // block_size]` at offset `t % block_size`.

Without a GPU, set TRITON_INTERPRET=1 before the first import of triton: the same kernels then run, slowly,
on CPU tensors. RADIXCACHE_DEBUG=1 makes every call check its block ids on the host first.
"""

from importlib.util import find_spec

if find_spec("torch") is None or find_spec("triton") is None:
    raise ImportError(
        'radixcache_kernels needs torch and triton (Linux only): pip install "radixcache[engine]"'
    )

from radixcache_kernels.attention import paged_attention
from radixcache_kernels.block_copy import copy_blocks
from radixcache_kernels.block_gather import gather_blocks, scatter_blocks
from radixcache_kernels.checks import KernelInputError
from radixcache_kernels.jit import INTERPRETED
from radixcache_kernels.kv_write import write_kv
from radixcache_kernels.linear import invariant_linear
from radixcache_kernels.linear_tiles import LinearTile, choose_linear_tile, linear_tiles
from radixcache_kernels.log_softmax import invariant_log_softmax
from radixcache_kernels.norms import invariant_layer_norm, invariant_rms_norm
from radixcache_kernels.plan import AttentionPlan
from radixcache_kernels.plan_device import DevicePlan, PlanCapacity, PlanOverflowError
from radixcache_kernels.planner import AttentionPlanner
from radixcache_kernels.same_bits import LinearShape, linear_bits, row_bits
from radixcache_kernels.same_bits_attention import AttentionShape, attention_bits
from radixcache_kernels.tiles import SPLIT_TOKENS, PlanOptions, Tile, Tiles, plan_options

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
