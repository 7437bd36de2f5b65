"""How keys and values lie in a pool, and how an attention kernel reads a tile of them.

| format | a token's key or value of one head | beside it |
|---|---|---|
| plain | head_dim numbers of a float type | nothing |
| int8 | head_dim codes in -127..127 | a float32 scale |
| fp8 | head_dim E4M3 codes in -448..448 | a float32 scale |
| int4 | head_dim // 2 bytes, two codes of 4 bits each | int16 words, see kv_int4.py |

Codes and scales are indexed alike, so a block id names both. A token is quantised once, when it is written,
from its own numbers alone, and every reader sees it as stored: who reads what was cached and who computed it
in the same step read the same numbers.
"""

import torch
import triton.language as tl
from torch import Tensor

from radixcache_kernels.jit import jit
from radixcache_kernels.kv_int4 import load_int4, side_words

PLAIN, INT8, FP8, INT4 = "plain", "int8", "fp8", "int4"
CODES = {torch.int8: INT8, torch.float8_e4m3fn: FP8, torch.uint8: INT4}
FULL_SCALE = {INT8: 127.0, FP8: 448.0}
"""The greatest code; a token's greatest number becomes it."""


def format_of(pool: Tensor) -> str:
    """The format of a pool of keys or values, told by its dtype."""
    return CODES.get(pool.dtype, PLAIN)


def head_dim_of(pool: Tensor) -> int:
    """Width of a head that the pool's last dimension stands for."""
    return pool.shape[-1] * (2 if pool.dtype == torch.uint8 else 1)


def scales_of(pool: Tensor, *, keys: bool) -> tuple[tuple[int, ...], torch.dtype] | None:
    """Shape and type of the scales that belong to a pool of keys or of values; None if it has none."""
    if pool.dtype not in CODES:
        return None
    if pool.dtype == torch.uint8:
        return (*pool.shape[:-1], side_words(head_dim_of(pool), keys=keys)), torch.int16
    return tuple(pool.shape[:-1]), torch.float32


def as_words(pool: Tensor) -> Tensor:
    """The pool as int32 words, or as bytes where a head is no whole number of words: for moving it."""
    whole = pool.shape[-1] * pool.element_size() % 4 == 0
    return pool.view(torch.int32 if whole else torch.uint8)


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
    that are not `used` are not read: what lies there may be NaN, which no zero probability would silence.
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
