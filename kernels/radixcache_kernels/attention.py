"""Attention of a step's query rows over the paged pool: the public entry and the choice of tile shapes.

Every sequence's keys are split at fixed absolute positions. A split's partial result is computed from the
query row and that split alone, and the splits are merged in order. So a row's result does not depend on
what else is in the batch, on how much of the sequence was cached, on how a prompt was cut into chunks, or on
which of the two kernels computed it. Within a split the algorithm is that of FlashAttention-2 (Dao, 2023);
the split decode is that of Flash-Decoding (Dao, Haziza, Massa and Sizov, 2023), at a fixed split length.
"""

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from radixcache_kernels.checks import (
    KernelInputError,
    check_indices,
    check_pools,
    check_rows,
    check_sequences,
    debug_enabled,
)
from radixcache_kernels.decode import decode_merge_kernel, decode_split_kernel
from radixcache_kernels.jit import INTERPRETED, LAUNCH_OPTIONS
from radixcache_kernels.prefill import prefill_kernel

SPLIT_TOKENS = 256
"""Default length of a split in tokens; results at different lengths differ in the last bits."""

LOG2_E = 1.4426950408889634
NO_WINDOW = 1 << 30
MIN_TILE_ROWS = 16
MIN_TILE_KEYS = 16
MAX_TILE_KEYS = 64
KEY_TILE_BYTES = 16 * 1024

_DOT_TYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}


def paged_attention(
    query: Tensor,
    k_pool: Tensor,
    v_pool: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    query_starts: Tensor,
    *,
    scale: float,
    sliding_window: int | None = None,
    soft_cap: float | None = None,
    sinks: Tensor | None = None,
    num_decodes: int = 0,
    split: int = SPLIT_TOKENS,
    out: Tensor | None = None,
    debug: bool | None = None,
) -> Tensor:
    """Causal attention of flattened query rows over each sequence's blocks; returns [T, heads, head_dim].

    query: `[T, heads, head_dim]` of the pool's dtype, dense in the last dimension (other strides free).
    k_pool, v_pool: `[num_blocks, block_size, kv_heads, head_dim]`, contiguous, float32, float16 or bfloat16,
    already holding the keys and values of all seq_lens[i] tokens; kv_heads divides heads.
    block_tables: `[S, max_blocks]`; entries that no row of the sequence attends to are never used.
    seq_lens: `[S]` tokens. query_starts: `[S + 1]`; rows query_starts[i]:query_starts[i + 1] belong to
    sequence i and are the last rows of its tokens. All three int32 or int64, contiguous. Rows past
    query_starts[S] are padding and come out as zeros, as do all rows of a sequence of length 0.
    scale: factor of the dot products. soft_cap: c turns a score s into c * tanh(s / c).
    sliding_window: W lets the row at position p attend to the positions (p - W, p].
    sinks: `[heads]`, an extra logit a head that only joins the denominator.
    num_decodes: the first num_decodes sequences have exactly one query row each, and their splits run in
    parallel. It decides speed only: any value that is true of the batch gives the same bits.
    split: tokens of a split, a power of two of at least 16.
    out: contiguous result tensor to fill. debug: check lengths and block ids on the host first, at the
    cost of a synchronisation (default: RADIXCACHE_DEBUG=1).

    No call but a debug one waits for the device. Raises KernelInputError on arguments that do not fit, and in
    debug mode on a block id out of range, naming sequence, table entry and id.
    """
    out = torch.empty(query.shape, dtype=query.dtype, device=query.device) if out is None else out
    _check_arguments(query, k_pool, v_pool, block_tables, seq_lens, query_starts, sinks, out)
    num_rows, num_heads, _ = query.shape
    num_sequences, max_blocks = block_tables.shape
    _, block_size, kv_heads, head_dim = k_pool.shape
    _check_options(sliding_window, soft_cap, split)
    if not 0 <= num_decodes <= min(num_sequences, num_rows):
        raise KernelInputError(
            f"num_decodes {num_decodes} is not within {num_sequences} sequences and {num_rows} rows"
        )
    if debug_enabled(debug):
        check_sequences(
            block_tables,
            seq_lens,
            query_starts,
            num_rows=num_rows,
            num_decodes=num_decodes,
            sliding_window=sliding_window,
            pool=k_pool,
        )

    group = num_heads // kv_heads
    head_pad = max(16, triton.next_power_of_2(head_dim))
    window = NO_WINDOW if sliding_window is None else min(sliding_window, NO_WINDOW)
    shape: dict[str, Any] = {
        "group": group,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "head_pad": head_pad,
        "tile_rows": max(MIN_TILE_ROWS, triton.next_power_of_2(group)),
        "split": split,
        **LAUNCH_OPTIONS,
    }
    scoring: dict[str, Any] = {
        "score_scale": scale * LOG2_E if soft_cap is None else scale / soft_cap,
        "cap": 0.0 if soft_cap is None else soft_cap * LOG2_E,
        "has_cap": soft_cap is not None,
        "block_size": block_size,
        "tile_keys": _tile_keys(head_pad, k_pool.element_size(), split),
        "dot_type": _dot_type(query.dtype),
    }
    if num_decodes > 0:
        num_splits = max(1, math.ceil(max_blocks * block_size / split))
        partial_shape = (num_decodes, num_splits, num_heads)
        part_acc = torch.empty((*partial_shape, head_dim), dtype=torch.float32, device=query.device)
        part_top = torch.empty(partial_shape, dtype=torch.float32, device=query.device)
        part_total = torch.empty_like(part_top)
        decode_split_kernel[(num_decodes, kv_heads, num_splits)](
            part_acc,
            part_top,
            part_total,
            query,
            k_pool,
            v_pool,
            block_tables,
            seq_lens,
            query.stride(0),
            query.stride(1),
            block_tables.stride(0),
            window,
            **scoring,
            **shape,
        )
        decode_merge_kernel[(num_decodes, kv_heads)](
            out, part_acc, part_top, part_total, seq_lens, sinks, num_splits, window, **shape
        )
    if num_rows > num_decodes:
        tile_tokens = shape["tile_rows"] // group
        prefills = num_sequences - num_decodes
        prefill_kernel[((num_rows - num_decodes) // tile_tokens + prefills + 1, kv_heads)](
            out,
            query,
            k_pool,
            v_pool,
            block_tables[num_decodes:],
            seq_lens[num_decodes:],
            query_starts[num_decodes:],
            sinks,
            prefills,
            num_decodes,
            num_rows,
            query.stride(0),
            query.stride(1),
            block_tables.stride(0),
            window,
            **scoring,
            **shape,
        )
    return out


def _tile_keys(head_pad: int, element_size: int, split: int) -> int:
    """Keys of an inner tile: a function of the model's shapes alone, since a row's bits depend on it."""
    fitting = KEY_TILE_BYTES // (head_pad * element_size)
    return min(split, max(MIN_TILE_KEYS, min(MAX_TILE_KEYS, fitting)))


def _dot_type(dtype: torch.dtype) -> Any:
    """Triton 3.9's interpreter multiplies the raw bits of bfloat16, so there it is widened first."""
    return tl.float32 if INTERPRETED and dtype == torch.bfloat16 else _DOT_TYPES[dtype]


def _check_arguments(
    query: Tensor,
    k_pool: Tensor,
    v_pool: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    query_starts: Tensor,
    sinks: Tensor | None,
    out: Tensor,
) -> None:
    check_pools(k_pool, v_pool)
    check_rows("query", query, None, k_pool)
    heads, kv_heads = query.shape[1], k_pool.shape[2]
    if heads == 0 or heads % kv_heads:
        raise KernelInputError(f"{heads} query heads are no multiple of {kv_heads} KV heads")
    check_indices("block_tables", block_tables, (None, None), k_pool)
    sequences = block_tables.shape[0]
    check_indices("seq_lens", seq_lens, (sequences,), k_pool)
    check_indices("query_starts", query_starts, (sequences + 1,), k_pool)
    if sinks is not None and not (
        sinks.shape == (heads,) and sinks.is_contiguous() and sinks.device == query.device
    ):
        raise KernelInputError(
            f"sinks is {tuple(sinks.shape)} on {sinks.device}, not contiguous [{heads}] on {query.device}"
        )
    check_rows("out", out, heads, k_pool)
    if out.shape != query.shape or not out.is_contiguous():
        raise KernelInputError(f"out has shape {tuple(out.shape)}, not contiguous {tuple(query.shape)}")


def _check_options(sliding_window: int | None, soft_cap: float | None, split: int) -> None:
    if sliding_window is not None and sliding_window <= 0:
        raise KernelInputError(f"sliding_window {sliding_window} is not positive")
    if soft_cap is not None and soft_cap <= 0:
        raise KernelInputError(f"soft_cap {soft_cap} is not positive")
    if split < MIN_TILE_KEYS or split & (split - 1):
        raise KernelInputError(f"split {split} is not a power of two of at least {MIN_TILE_KEYS}")
