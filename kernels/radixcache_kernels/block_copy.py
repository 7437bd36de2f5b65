"""Copy-on-write: copying the first tokens of blocks into other blocks, all of them in one launch."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from radixcache_kernels.checks import check_copies, check_indices, check_pools, debug_enabled
from radixcache_kernels.jit import LAUNCH_OPTIONS, jit

MAX_CHUNK = 4096


@jit
def _copy_chunk(
    pool: tl.tensor,
    source: tl.tensor,
    target: tl.tensor,
    tokens: tl.tensor,
    start: tl.tensor,
    block_words: tl.constexpr,
    token_words: tl.constexpr,
    chunk: tl.constexpr,
) -> None:
    word = start + tl.arange(0, chunk)
    live = word < tokens * token_words
    tl.store(pool + target * block_words + word, tl.load(pool + source * block_words + word, mask=live), live)


@jit
def copy_kernel(
    k_words: tl.tensor,
    v_words: tl.tensor,
    k_scale_words: tl.tensor,
    v_scale_words: tl.tensor,
    sources: tl.tensor,
    targets: tl.tensor,
    num_tokens: tl.tensor,
    k_layer_stride: tl.tensor,
    v_layer_stride: tl.tensor,
    k_scale_stride: tl.tensor,
    v_scale_stride: tl.tensor,
    block_words: tl.constexpr,
    token_words: tl.constexpr,
    chunk: tl.constexpr,
    block_size: tl.constexpr,
    k_token_scales: tl.constexpr,
    v_token_scales: tl.constexpr,
    scale_chunk: tl.constexpr,
) -> None:
    """Grid (copies, chunks of a block, layers); strides are those of layers, in words."""
    copy = tl.program_id(0)
    start = tl.program_id(1) * chunk
    layer = tl.program_id(2).to(tl.int64)
    source = tl.load(sources + copy).to(tl.int64)
    target = tl.load(targets + copy).to(tl.int64)
    tokens = tl.load(num_tokens + copy).to(tl.int32)
    k_layer, v_layer = k_words + layer * k_layer_stride, v_words + layer * v_layer_stride
    _copy_chunk(k_layer, source, target, tokens, start, block_words, token_words, chunk)
    _copy_chunk(v_layer, source, target, tokens, start, block_words, token_words, chunk)
    if k_scale_words is not None:  # noqa: SIM102 - known when it is compiled, the other is not
        if start == 0:
            k_side, v_side = k_scale_words + layer * k_scale_stride, v_scale_words + layer * v_scale_stride
            k_block: tl.constexpr = block_size * k_token_scales
            _copy_chunk(k_side, source, target, tokens, start, k_block, k_token_scales, scale_chunk)
            v_block: tl.constexpr = block_size * v_token_scales
            _copy_chunk(v_side, source, target, tokens, start, v_block, v_token_scales, scale_chunk)


def as_words(pool: Tensor) -> Tensor:
    """The pool as int32 words for moving it, or as bytes where a head is not a whole number of words."""
    whole = pool.shape[-1] * pool.element_size() % 4 == 0
    return pool.view(torch.int32 if whole else torch.uint8)


def copy_blocks(
    k_pool: Tensor,
    v_pool: Tensor,
    sources: Tensor,
    targets: Tensor,
    num_tokens: Tensor,
    *,
    k_scales: Tensor | None = None,
    v_scales: Tensor | None = None,
    debug: bool | None = None,
) -> None:
    """Copy the first num_tokens[i] tokens of block sources[i] to block targets[i], all in one launch.

    k_pool, v_pool: one layer `[num_blocks, block_size, kv_heads, head_dim]`, or all layers at once
    `[layers, num_blocks, block_size, kv_heads, head_dim]` (each layer contiguous, any stride between layers).
    k_scales, v_scales: the scales of pools that hold codes (see formats.py), with as many layers.
    sources, targets, num_tokens: `[N]` int64 or int32; targets are distinct and none is also a source, since
    the copies run in no particular order. Tokens of a target past num_tokens[i] keep what they held.
    debug: check the ids on the host first (default: RADIXCACHE_DEBUG=1).

    Raises KernelInputError on shapes, dtypes or devices that do not fit, and in debug mode on an id or a
    count out of range or on copies that touch the same block.
    """
    check_pools(k_pool, v_pool, k_scales, v_scales, ndims=(4, 5))
    check_indices("sources", sources, (None,), k_pool)
    count = sources.shape[0]
    check_indices("targets", targets, (count,), k_pool)
    check_indices("num_tokens", num_tokens, (count,), k_pool)
    if debug_enabled(debug):
        check_copies(sources, targets, num_tokens, k_pool)
    if count == 0:
        return
    many = k_pool.ndim == 5
    block_size, kv_heads = k_pool.shape[-3:-1]
    k_words, v_words = as_words(k_pool), as_words(v_pool)
    token_words = kv_heads * k_words.shape[-1]
    k_side, v_side = (None if scales is None else as_words(scales) for scales in (k_scales, v_scales))
    k_token, v_token = (
        0 if side is None else side[(0,) * (k_pool.ndim - 2)].numel() for side in (k_side, v_side)
    )
    chunk = min(MAX_CHUNK, triton.next_power_of_2(block_size * token_words))
    copy_kernel[count, triton.cdiv(block_size * token_words, chunk), k_pool.shape[0] if many else 1](
        k_words,
        v_words,
        k_side,
        v_side,
        sources,
        targets,
        num_tokens,
        k_words.stride(0) if many else 0,
        v_words.stride(0) if many else 0,
        k_side.stride(0) if many and k_side is not None else 0,
        v_side.stride(0) if many and v_side is not None else 0,
        block_words=block_size * token_words,
        token_words=token_words,
        chunk=chunk,
        block_size=block_size,
        k_token_scales=k_token,
        v_token_scales=v_token,
        scale_chunk=triton.next_power_of_2(block_size * max(k_token, v_token, 1)),
        **LAUNCH_OPTIONS,
    )
