"""Writing the keys and values of new tokens into the paged pool."""

import triton
import triton.language as tl
from torch import Tensor

from radixcache_kernels.checks import check_indices, check_pools, check_rows, check_slots, debug_enabled
from radixcache_kernels.formats import head_dim_of
from radixcache_kernels.jit import LAUNCH_OPTIONS, jit
from radixcache_kernels.quantize import quantise_kv

MAX_CHUNK = 2048


@jit
def write_kernel(
    key: tl.tensor,
    value: tl.tensor,
    k_pool: tl.tensor,
    v_pool: tl.tensor,
    slots: tl.tensor,
    key_row_stride: tl.tensor,
    key_head_stride: tl.tensor,
    value_row_stride: tl.tensor,
    value_head_stride: tl.tensor,
    kv_heads: tl.constexpr,
    head_dim: tl.constexpr,
    chunk: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + row).to(tl.int64)
    if slot < 0:
        return
    element = tl.program_id(1) * chunk + tl.arange(0, chunk)
    live = element < kv_heads * head_dim
    head = element // head_dim
    dim = element % head_dim
    target = slot * (kv_heads * head_dim) + element
    k = tl.load(key + row * key_row_stride + head * key_head_stride + dim, mask=live, other=0.0)
    tl.store(k_pool + target, k, mask=live)
    v = tl.load(value + row * value_row_stride + head * value_head_stride + dim, mask=live, other=0.0)
    tl.store(v_pool + target, v, mask=live)


def write_kv(
    key: Tensor,
    value: Tensor,
    k_pool: Tensor,
    v_pool: Tensor,
    slots: Tensor,
    *,
    k_scales: Tensor | None = None,
    v_scales: Tensor | None = None,
    debug: bool | None = None,
) -> None:
    """Write each token's key and value into its slot of the pool, quantised if the pool holds codes.

    key, value: `[T, kv_heads, head_dim]` of a float type, dense in the last dimension.
    k_pool, v_pool: `[num_blocks, block_size, kv_heads, head_dim]`, contiguous; of a float type, or codes of a
    quantised format with the k_scales and v_scales that belong to them (see formats.py).
    slots: `[T]` int64 or int32, block * block_size + offset; a negative slot skips its row (padding).
    debug: check slots on the host first (default: RADIXCACHE_DEBUG=1).

    Raises KernelInputError on shapes, dtypes or devices that do not fit, and in debug mode on a slot past the
    pool or one written twice.
    """
    check_pools(k_pool, v_pool, k_scales, v_scales)
    kv_heads, head_dim = k_pool.shape[2], head_dim_of(k_pool)
    check_rows("key", key, kv_heads, k_pool)
    check_rows("value", value, kv_heads, k_pool)
    check_indices("slots", slots, (key.shape[0],), k_pool)
    check_indices("slots", slots, (value.shape[0],), k_pool)
    if debug_enabled(debug):
        check_slots(slots, k_pool)
    if key.shape[0] == 0:
        return
    if k_scales is not None and v_scales is not None:
        quantise_kv(key, value, k_pool, v_pool, k_scales, v_scales, slots)
        return
    chunk = min(MAX_CHUNK, triton.next_power_of_2(kv_heads * head_dim))
    grid = (key.shape[0], triton.cdiv(kv_heads * head_dim, chunk))
    write_kernel[grid](
        key,
        value,
        k_pool,
        v_pool,
        slots,
        key.stride(0),
        key.stride(1),
        value.stride(0),
        value.stride(1),
        kv_heads=kv_heads,
        head_dim=head_dim,
        chunk=chunk,
        **LAUNCH_OPTIONS,
    )
