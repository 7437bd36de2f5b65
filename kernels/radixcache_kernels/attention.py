"""Attention of a step's query rows over the paged pool: the public entry.

Every sequence's keys are split at fixed absolute positions. A split's partial result is computed from the
query row and that split alone, and the splits are merged in order. So a row's result does not depend on
what else is in the batch, on how much of the sequence was cached, on how a prompt was cut into chunks, on
who shares its blocks, or on which of the two kernels computed it. Within a split the algorithm is that of
FlashAttention-2 (Dao, 2023); the split decode is that of Flash-Decoding (Dao, Haziza, Massa and Sizov, 2023),
at a fixed split length.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from radixcache_kernels.checks import (
    KernelInputError,
    check_indices,
    check_pools,
    check_rows,
    check_sequences,
    debug_enabled,
)
from radixcache_kernels.decode import decode_items_kernel, decode_merge_kernel
from radixcache_kernels.formats import format_of
from radixcache_kernels.jit import LAUNCH_OPTIONS, dot_type
from radixcache_kernels.plan_checks import check_plan_fits, check_work
from radixcache_kernels.plan_device import DevicePlan, Work, unplanned_work
from radixcache_kernels.prefill import prefill_kernel
from radixcache_kernels.splits import SPLIT_TOKENS
from radixcache_kernels.tiles import MIN_TILE_KEYS, Tile, choose_tile_keys, plan_options

LOG2_E = 1.4426950408889634
NO_WINDOW = 1 << 30


def paged_attention(
    query: Tensor,
    k_pool: Tensor,
    v_pool: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    query_starts: Tensor,
    *,
    scale: float,
    k_scales: Tensor | None = None,
    v_scales: Tensor | None = None,
    sliding_window: int | None = None,
    soft_cap: float | None = None,
    sinks: Tensor | None = None,
    plan: DevicePlan | None = None,
    num_decodes: int = 0,
    split: int = SPLIT_TOKENS,
    out: Tensor | None = None,
    debug: bool | None = None,
) -> Tensor:
    """Causal attention of flattened query rows over each sequence's blocks; returns [T, heads, head_dim].

    query: `[T, heads, head_dim]` of the pool's dtype if that is a float type, dense in the last dimension
    (other strides free).
    k_pool, v_pool: `[num_blocks, block_size, kv_heads, head_dim]`, contiguous, float32, float16 or bfloat16,
    or the codes of a quantised format (see formats.py) with k_scales and v_scales beside them; already
    holding the keys and values of all seq_lens[i] tokens; kv_heads divides heads.
    block_tables: `[S, max_blocks]`; entries that no row of the sequence attends to are never used.
    seq_lens: `[S]` tokens. query_starts: `[S + 1]`; rows query_starts[i]:query_starts[i + 1] belong to
    sequence i and are the last rows of its tokens. All three int32 or int64, contiguous. Rows past
    query_starts[S] are padding and come out as zeros, as do all rows of a sequence of length 0.
    scale: factor of the dot products. soft_cap: c turns a score s into c * tanh(s / c).
    sliding_window: W lets the row at position p attend to the positions (p - W, p].
    sinks: `[heads]`, an extra logit a head that only joins the denominator.
    plan: the loaded plan of this very batch (see planner.py) for the same split and sliding window. It
    decides speed only. Without one nothing is shared, and every split that a table has room for costs a look.
    num_decodes: without a plan: the first num_decodes sequences have exactly one query row each, and their
    splits run in parallel. Any value that is true of the batch gives the same bits.
    split: tokens of a split, a power of two of at least 16.
    out: contiguous result tensor to fill. debug: check lengths and block ids on the host first, at the
    cost of a synchronisation (default: RADIXCACHE_DEBUG=1).

    No call but a debug one waits for the device. Raises KernelInputError on arguments that do not fit, and in
    debug mode on a block id out of range, naming sequence, table entry and id.
    """
    out = torch.empty(query.shape, dtype=query.dtype, device=query.device) if out is None else out
    _check_arguments(
        query, k_pool, v_pool, k_scales, v_scales, block_tables, seq_lens, query_starts, sinks, out
    )
    num_rows, num_heads, head_dim = query.shape
    num_sequences, max_blocks = block_tables.shape
    block_size, kv_heads = k_pool.shape[1:3]
    _check_options(sliding_window, soft_cap, split)
    options = plan_options(
        num_heads, kv_heads, head_dim, block_size, split=split, sliding_window=sliding_window
    )
    if plan is not None:
        work = plan.work
        check_plan_fits(plan, options, num_sequences, num_rows)
        num_decodes = 0
    elif not 0 <= num_decodes <= min(num_sequences, num_rows):
        raise KernelInputError(
            f"num_decodes {num_decodes} is not within {num_sequences} sequences and {num_rows} rows"
        )
    else:
        max_tokens = max_blocks * block_size
        work = unplanned_work(query_starts, options, kv_heads, num_rows, num_decodes, max_tokens)
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
        if plan is not None:
            check_work(work, block_tables, seq_lens, query_starts)
    # Rows of no sequence come out as zeros; how many there are is known to the host only with a plan.
    planned_rows = num_decodes if plan is None or plan.plan is None else plan.plan.num_rows
    if num_rows > planned_rows:
        out[planned_rows:].zero_()

    head_pad = max(16, triton.next_power_of_2(head_dim))
    inputs = (query, k_pool, v_pool, k_scales, v_scales, block_tables, seq_lens, query_starts)
    strides = (query.stride(0), query.stride(1), block_tables.stride(0))
    window = NO_WINDOW if sliding_window is None else min(sliding_window, NO_WINDOW)
    shape: dict[str, Any] = {
        "group": options.group,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "head_pad": head_pad,
        "split": split,
        **LAUNCH_OPTIONS,
    }
    scoring: dict[str, Any] = {
        "window": window,
        "score_scale": scale * LOG2_E if soft_cap is None else scale / soft_cap,
        "cap": 0.0 if soft_cap is None else soft_cap * LOG2_E,
        "has_cap": soft_cap is not None,
        "block_size": block_size,
        "tile_keys": choose_tile_keys(head_pad, query.element_size(), split),
        "dot_type": dot_type(query.dtype),
        "kv_format": format_of(k_pool),
    }
    if work.row_programs > 0:
        partials = _partials(work, num_heads, head_dim, query.device)
        for items, count, programs, tile in (
            (work.wide, work.num_wide, work.wide_programs, work.options.tiles.wide),
            (work.narrow, work.num_narrow, work.narrow_programs, work.options.tiles.narrow),
        ):
            if programs > 0:
                decode_items_kernel[(programs,)](
                    *partials, items, count, work.rows, *inputs, *strides, **scoring, **_tile(tile), **shape
                )
        decode_merge_kernel[(work.row_programs, kv_heads)](
            out,
            *partials,
            work.rows,
            work.num_rows,
            seq_lens,
            query_starts,
            sinks,
            window,
            tile_heads=triton.next_power_of_2(options.group),
            **shape,
        )
    if work.num_tiles > 0:
        prefill_kernel[(work.num_tiles * kv_heads,)](
            out, work.tiles, *inputs, sinks, *strides, **scoring, **_tile(work.options.tiles.prefill), **shape
        )
    return out


def _partials(
    work: Work, num_heads: int, head_dim: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Room for the partial result of each row over each split, unwritten."""
    acc = torch.empty((work.partials, num_heads, head_dim), dtype=torch.float32, device=device)
    top = torch.empty((work.partials, num_heads), dtype=torch.float32, device=device)
    return acc, top, torch.empty_like(top)


def _tile(tile: Tile) -> dict[str, Any]:
    return {"tile_rows": tile.rows, "num_warps": tile.warps, "num_stages": tile.stages}


def _check_arguments(
    query: Tensor,
    k_pool: Tensor,
    v_pool: Tensor,
    k_scales: Tensor | None,
    v_scales: Tensor | None,
    block_tables: Tensor,
    seq_lens: Tensor,
    query_starts: Tensor,
    sinks: Tensor | None,
    out: Tensor,
) -> None:
    check_pools(k_pool, v_pool, k_scales, v_scales)
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
    if out.shape != query.shape or out.dtype != query.dtype or not out.is_contiguous():
        raise KernelInputError(
            f"out is {out.dtype} {tuple(out.shape)}, not contiguous {query.dtype} {tuple(query.shape)}"
        )


def _check_options(sliding_window: int | None, soft_cap: float | None, split: int) -> None:
    if sliding_window is not None and sliding_window <= 0:
        raise KernelInputError(f"sliding_window {sliding_window} is not positive")
    if soft_cap is not None and soft_cap <= 0:
        raise KernelInputError(f"soft_cap {soft_cap} is not positive")
    if split < MIN_TILE_KEYS or split & (split - 1):
        raise KernelInputError(f"split {split} is not a power of two of at least {MIN_TILE_KEYS}")
