"""Copy-on-write: copying the first tokens of blocks into other blocks, all of them in one launch."""

import triton
import triton.language as tl
from torch import Tensor

from radixcache_kernels.checks import check_copies, check_indices, check_pools, debug_enabled
from radixcache_kernels.jit import LAUNCH_OPTIONS, jit

MAX_CHUNK = 4096


@jit
def copy_kernel(
    k_pool: tl.tensor,
    v_pool: tl.tensor,
    sources: tl.tensor,
    targets: tl.tensor,
    num_tokens: tl.tensor,
    k_layer_stride: tl.tensor,
    v_layer_stride: tl.tensor,
    block_elements: tl.constexpr,
    token_elements: tl.constexpr,
    chunk: tl.constexpr,
) -> None:
    copy = tl.program_id(0)
    layer = tl.program_id(2).to(tl.int64)
    source = tl.load(sources + copy).to(tl.int64) * block_elements
    target = tl.load(targets + copy).to(tl.int64) * block_elements
    element = tl.program_id(1) * chunk + tl.arange(0, chunk)
    live = element < tl.load(num_tokens + copy) * token_elements
    k_layer = k_pool + layer * k_layer_stride
    tl.store(k_layer + target + element, tl.load(k_layer + source + element, mask=live), mask=live)
    v_layer = v_pool + layer * v_layer_stride
    tl.store(v_layer + target + element, tl.load(v_layer + source + element, mask=live), mask=live)


def copy_blocks(
    k_pool: Tensor,
    v_pool: Tensor,
    sources: Tensor,
    targets: Tensor,
    num_tokens: Tensor,
    *,
    debug: bool | None = None,
) -> None:
    """Copy the first num_tokens[i] tokens of block sources[i] to block targets[i], all in one launch.

    k_pool, v_pool: one layer `[num_blocks, block_size, kv_heads, head_dim]`, or all layers at once
    `[layers, num_blocks, block_size, kv_heads, head_dim]` (each layer contiguous, any stride between layers).
    sources, targets, num_tokens: `[N]` int64 or int32; targets are distinct and none is also a source, since
    the copies run in no particular order. Tokens of a target past num_tokens[i] keep what they held.
    debug: check the ids on the host first (default: RADIXCACHE_DEBUG=1).

    Raises KernelInputError on shapes, dtypes or devices that do not fit, and in debug mode on an id or a
    count out of range or on copies that touch the same block.
    """
    check_pools(k_pool, v_pool, ndims=(4, 5))
    check_indices("sources", sources, (None,), k_pool)
    count = sources.shape[0]
    check_indices("targets", targets, (count,), k_pool)
    check_indices("num_tokens", num_tokens, (count,), k_pool)
    if debug_enabled(debug):
        check_copies(sources, targets, num_tokens, k_pool)
    if count == 0:
        return
    many = k_pool.ndim == 5
    block_size, kv_heads, head_dim = k_pool.shape[-3:]
    block_elements = block_size * kv_heads * head_dim
    chunk = min(MAX_CHUNK, triton.next_power_of_2(block_elements))
    grid = (count, triton.cdiv(block_elements, chunk), k_pool.shape[0] if many else 1)
    copy_kernel[grid](
        k_pool,
        v_pool,
        sources,
        targets,
        num_tokens,
        k_pool.stride(0) if many else 0,
        v_pool.stride(0) if many else 0,
        block_elements=block_elements,
        token_elements=kv_heads * head_dim,
        chunk=chunk,
        **LAUNCH_OPTIONS,
    )
