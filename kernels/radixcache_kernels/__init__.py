"""Triton kernels over a paged key/value pool: write, copy, attend. Depends on torch and triton only.

A pool is, for each layer, one key and one value tensor `[num_blocks, block_size, kv_heads, head_dim]`.
Token t of a sequence lies in block `block_table[t // block_size]` at offset `t % block_size`.

Without a GPU, set TRITON_INTERPRET=1 before the first import of triton: the same kernels then run, slowly,
on CPU tensors. RADIXCACHE_DEBUG=1 makes every call check its block ids on the host first.
"""

from radixcache_kernels.attention import SPLIT_TOKENS, paged_attention
from radixcache_kernels.block_copy import copy_blocks
from radixcache_kernels.checks import KernelInputError
from radixcache_kernels.jit import INTERPRETED
from radixcache_kernels.kv_write import write_kv

__all__ = ["INTERPRETED", "SPLIT_TOKENS", "KernelInputError", "copy_blocks", "paged_attention", "write_kv"]
