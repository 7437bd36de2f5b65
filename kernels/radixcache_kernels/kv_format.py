"""Reading a tile of stored keys or values inside an attention kernel, in any format of formats.py."""

import triton.language as tl

from radixcache_kernels.jit import jit
from radixcache_kernels.kv_int4 import load_int4


@jit
def load_scales(
    scales: tl.tensor, slots: tl.tensor, used: tl.tensor, kv_head: tl.tensor, kv_heads: tl.constexpr
) -> tl.tensor:
    """[tile_keys] float32; what is not used is zero."""
    return tl.load(scales + slots * kv_heads + kv_head, mask=used, other=0.0)


@jit
def score_keys(
    queries: tl.tensor,
    k_pool: tl.tensor,
    k_scales: tl.tensor,
    slots: tl.tensor,
    used: tl.tensor,
    kv_head: tl.tensor,
    score_scale: tl.tensor,
    kv_heads: tl.constexpr,
    head_dim: tl.constexpr,
    head_pad: tl.constexpr,
    kv_format: tl.constexpr,
    dot_type: tl.constexpr,
) -> tl.tensor:
    """[tile_rows, tile_keys] float32, the products of a tile of queries and one of keys, times score_scale.

    queries: [tile_rows, head_pad] of dot_type. slots: int64 [tile_keys], block * block_size + offset; those
    that are not `used` are not read: what is there may be NaN, which no zero probability would silence.
    """
    if kv_format == "int4":
        codes = load_int4(k_pool, k_scales, slots, used, kv_head, kv_heads, head_dim, head_pad, True)
    else:
        dims = tl.arange(0, head_pad)
        offsets = (slots * kv_heads + kv_head) * head_dim
        mask = (dims[:, None] < head_dim) & used[None, :]
        codes = tl.load(k_pool + offsets[None, :] + dims[:, None], mask=mask, other=0.0)
    scores = tl.dot(queries, codes.to(dot_type), input_precision="ieee") * score_scale
    if kv_format == "int8" or kv_format == "fp8":  # noqa: PLR1714 - triton knows no `in`
        # A token's scale is common to its products: one multiplication a score, not one an element.
        scores = scores * load_scales(k_scales, slots, used, kv_head, kv_heads)[None, :]
    return scores


@jit
def add_values(
    acc: tl.tensor,
    weights: tl.tensor,
    v_pool: tl.tensor,
    v_scales: tl.tensor,
    slots: tl.tensor,
    used: tl.tensor,
    kv_head: tl.tensor,
    kv_heads: tl.constexpr,
    head_dim: tl.constexpr,
    head_pad: tl.constexpr,
    kv_format: tl.constexpr,
    dot_type: tl.constexpr,
) -> tl.tensor:
    """`acc` [tile_rows, head_pad] float32, plus the product of weights [tile_rows, tile_keys] and values."""
    if kv_format == "int4":
        codes = load_int4(v_pool, v_scales, slots, used, kv_head, kv_heads, head_dim, head_pad, False)
    else:
        dims = tl.arange(0, head_pad)
        offsets = (slots * kv_heads + kv_head) * head_dim
        mask = used[:, None] & (dims[None, :] < head_dim)
        codes = tl.load(v_pool + offsets[:, None] + dims[None, :], mask=mask, other=0.0)
    if kv_format == "int8" or kv_format == "fp8":  # noqa: PLR1714 - triton knows no `in`
        # Scaled values have the range of the model's own, as float16 needs; scaled weights might not.
        codes = codes.to(tl.float32) * load_scales(v_scales, slots, used, kv_head, kv_heads)[:, None]
    return tl.dot(weights.to(dot_type), codes.to(dot_type), acc, input_precision="ieee")
