"""Whole blocks between the pool and a staging tensor, in one launch for all layers.

What leaves the pool for another tier is one record a block, the bytes of all its layers in a row: the keys of
layer 0, 1, ..., then the values of each layer, then, of a pool that holds codes, the scales of the keys and
those of the values.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from radixcache_kernels.checks import (
    KernelInputError,
    check_blocks,
    check_indices,
    check_pools,
    debug_enabled,
)
from radixcache_kernels.jit import LAUNCH_OPTIONS, jit

MAX_CHUNK = 4096


@jit
def _move_chunk(
    pool: tl.tensor,
    staging: tl.tensor,
    start: tl.tensor,
    words: tl.constexpr,
    chunk: tl.constexpr,
    to_pool: tl.constexpr,
) -> None:
    word = start + tl.arange(0, chunk)
    live = word < words
    if to_pool:
        tl.store(pool + word, tl.load(staging + word, mask=live), mask=live)
    else:
        tl.store(staging + word, tl.load(pool + word, mask=live), mask=live)


@jit
def move_kernel(
    k_words: tl.tensor,
    v_words: tl.tensor,
    k_scale_words: tl.tensor,
    v_scale_words: tl.tensor,
    staging: tl.tensor,
    blocks: tl.tensor,
    k_layer_stride: tl.tensor,
    v_layer_stride: tl.tensor,
    k_scale_stride: tl.tensor,
    v_scale_stride: tl.tensor,
    record_stride: tl.tensor,
    block_words: tl.constexpr,
    chunk: tl.constexpr,
    k_scale_block: tl.constexpr,
    v_scale_block: tl.constexpr,
    scale_chunk: tl.constexpr,
    to_pool: tl.constexpr,
) -> None:
    """Grid (blocks, chunks of a block, layers); strides are those of layers, in words."""
    start = tl.program_id(1) * chunk
    layer = tl.program_id(2).to(tl.int64)
    layers = tl.num_programs(2)
    block = tl.load(blocks + tl.program_id(0)).to(tl.int64)
    record = staging + tl.program_id(0).to(tl.int64) * record_stride
    keys, values = record + layer * block_words, record + (layers + layer) * block_words
    _move_chunk(
        k_words + layer * k_layer_stride + block * block_words, keys, start, block_words, chunk, to_pool
    )
    _move_chunk(
        v_words + layer * v_layer_stride + block * block_words, values, start, block_words, chunk, to_pool
    )
    if k_scale_words is not None:  # noqa: SIM102 - known when it is compiled, the other is not
        if start == 0:
            k_record = record + 2 * layers * block_words + layer * k_scale_block
            k_from = k_scale_words + layer * k_scale_stride + block * k_scale_block
            _move_chunk(k_from, k_record, start, k_scale_block, scale_chunk, to_pool)
            v_record = record + layers * (2 * block_words + k_scale_block) + layer * v_scale_block
            v_from = v_scale_words + layer * v_scale_stride + block * v_scale_block
            _move_chunk(v_from, v_record, start, v_scale_block, scale_chunk, to_pool)


def gather_blocks(
    k_pool: Tensor,
    v_pool: Tensor,
    blocks: Tensor,
    staging: Tensor,
    *,
    k_scales: Tensor | None = None,
    v_scales: Tensor | None = None,
    debug: bool | None = None,
) -> None:
    """Copy whole blocks of all layers from the pool to `staging`, a record a block.

    k_pool, v_pool: `[layers, num_blocks, block_size, kv_heads, head_dim]`, each layer contiguous.
    k_scales, v_scales: the scales of pools that hold codes (see formats.py).
    blocks: `[N]` int64 or int32. staging: `[N, bytes of a block over all layers]` uint8, each row contiguous,
    with any stride between rows: the columns of a wider tensor will do.
    debug: check the ids on the host first (default: RADIXCACHE_DEBUG=1).

    Raises KernelInputError on shapes, dtypes or devices that do not fit, and in debug mode on an id that is
    out of range.
    """
    _move(k_pool, v_pool, blocks, staging, k_scales, v_scales, debug, to_pool=False)


def scatter_blocks(
    k_pool: Tensor,
    v_pool: Tensor,
    blocks: Tensor,
    staging: Tensor,
    *,
    k_scales: Tensor | None = None,
    v_scales: Tensor | None = None,
    debug: bool | None = None,
) -> None:
    """Copy the records of `staging` to whole blocks of the pool; the inverse of `gather_blocks`.

    The blocks must be distinct; in debug mode a KernelInputError names two that are not.
    """
    _move(k_pool, v_pool, blocks, staging, k_scales, v_scales, debug, to_pool=True)


def _move(
    k_pool: Tensor,
    v_pool: Tensor,
    blocks: Tensor,
    staging: Tensor,
    k_scales: Tensor | None,
    v_scales: Tensor | None,
    debug: bool | None,
    *,
    to_pool: bool,
) -> None:
    check_pools(k_pool, v_pool, k_scales, v_scales, ndims=(5,))
    check_indices("blocks", blocks, (None,), k_pool)
    if debug_enabled(debug):
        check_blocks(blocks, k_pool, distinct=to_pool)
    pools = [pool for pool in (k_pool, v_pool, k_scales, v_scales) if pool is not None]
    record = sum(pool[:, 0].numel() * pool.element_size() for pool in pools)
    if (
        staging.shape != (blocks.shape[0], record)
        or staging.element_size() != 1
        or staging.device != k_pool.device
        or (record > 1 and staging.stride(1) != 1)
    ):
        raise KernelInputError(
            f"staging is {staging.dtype} {tuple(staging.shape)} on {staging.device}, "
            f"not contiguous bytes [{blocks.shape[0]}, {record}] a row on {k_pool.device}"
        )
    if blocks.shape[0] == 0:
        return
    whole = k_pool.shape[-1] * k_pool.element_size() % 4 == 0
    whole = whole and staging.stride(0) % 4 == 0 and staging.data_ptr() % 4 == 0
    unit = torch.int32 if whole else torch.uint8
    k_words, v_words, staged = k_pool.view(unit), v_pool.view(unit), staging.view(torch.uint8).view(unit)
    block_words = k_words[0, 0].numel()
    k_side, v_side = (None if scales is None else scales.view(unit) for scales in (k_scales, v_scales))
    k_scale_block, v_scale_block = (0 if side is None else side[0, 0].numel() for side in (k_side, v_side))
    chunk = min(MAX_CHUNK, triton.next_power_of_2(block_words))
    move_kernel[blocks.shape[0], triton.cdiv(block_words, chunk), k_pool.shape[0]](
        k_words,
        v_words,
        k_side,
        v_side,
        staged,
        blocks,
        k_words.stride(0),
        v_words.stride(0),
        0 if k_side is None else k_side.stride(0),
        0 if v_side is None else v_side.stride(0),
        staged.stride(0),
        block_words=block_words,
        chunk=chunk,
        k_scale_block=k_scale_block,
        v_scale_block=v_scale_block,
        scale_chunk=triton.next_power_of_2(max(k_scale_block, v_scale_block, 1)),
        to_pool=to_pool,
        **LAUNCH_OPTIONS,
    )
