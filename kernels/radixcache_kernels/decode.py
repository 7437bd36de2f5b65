"""Attention of one new token a sequence: one program a split of its keys, then a merge of the splits."""

import triton.language as tl

from radixcache_kernels.attention_tile import load_queries, split_partial, store_rows
from radixcache_kernels.jit import jit_unspecialised
from radixcache_kernels.merge import merge_partial


@jit_unspecialised("table_stride")
def decode_split_kernel(
    part_acc: tl.tensor,
    part_top: tl.tensor,
    part_total: tl.tensor,
    query: tl.tensor,
    k_pool: tl.tensor,
    v_pool: tl.tensor,
    block_tables: tl.tensor,
    seq_lens: tl.tensor,
    query_row_stride: tl.tensor,
    query_head_stride: tl.tensor,
    table_stride: tl.tensor,
    window: tl.tensor,
    score_scale: tl.tensor,
    cap: tl.tensor,
    has_cap: tl.constexpr,
    group: tl.constexpr,
    kv_heads: tl.constexpr,
    block_size: tl.constexpr,
    head_dim: tl.constexpr,
    head_pad: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_keys: tl.constexpr,
    split: tl.constexpr,
    dot_type: tl.constexpr,
) -> None:
    """Grid (sequences, kv_heads, splits); row i is sequence i.

    Writes the partial results part_acc [sequences, splits, heads, head_dim], part_top and part_total
    [sequences, splits, heads] of the splits that the row attends to, and leaves the others unwritten.
    """
    sequence = tl.program_id(0)
    kv_head = tl.program_id(1)
    split_index = tl.program_id(2)
    length = tl.load(seq_lens + sequence).to(tl.int32)
    first = tl.maximum(length - window, 0)
    split_start = split_index * split
    if (split_start >= length) | (split_start + split <= first):
        return

    lanes = tl.arange(0, tile_rows)
    heads = kv_head * group + lanes
    live = lanes < group
    rows = tl.zeros([tile_rows], tl.int32) + sequence
    queries = load_queries(
        query, rows, heads, live, query_row_stride, query_head_stride, head_dim, head_pad, dot_type
    )
    acc, top, total = split_partial(
        queries,
        tl.where(live, length - 1, -1),
        first,
        length,
        split_start,
        k_pool,
        v_pool,
        block_tables + sequence.to(tl.int64) * table_stride,
        kv_head,
        window,
        score_scale,
        cap,
        has_cap,
        kv_heads,
        block_size,
        head_dim,
        head_pad,
        tile_rows,
        tile_keys,
        split,
        dot_type,
    )
    offsets = (sequence.to(tl.int64) * tl.num_programs(2) + split_index) * (kv_heads * group) + heads
    dims = tl.arange(0, head_pad)
    mask = live[:, None] & (dims[None, :] < head_dim)
    tl.store(part_acc + offsets[:, None] * head_dim + dims[None, :], acc, mask=mask)
    tl.store(part_top + offsets, top, mask=live)
    tl.store(part_total + offsets, total, mask=live)


@jit_unspecialised("num_splits")
def decode_merge_kernel(
    out: tl.tensor,
    part_acc: tl.tensor,
    part_top: tl.tensor,
    part_total: tl.tensor,
    seq_lens: tl.tensor,
    sinks: tl.tensor,
    num_splits: tl.tensor,
    window: tl.tensor,
    group: tl.constexpr,
    kv_heads: tl.constexpr,
    head_dim: tl.constexpr,
    head_pad: tl.constexpr,
    tile_rows: tl.constexpr,
    split: tl.constexpr,
) -> None:
    """Grid (sequences, kv_heads): merges a row's splits from first to last and writes the row of `out`."""
    sequence = tl.program_id(0)
    kv_head = tl.program_id(1)
    length = tl.load(seq_lens + sequence).to(tl.int32)
    first = tl.maximum(length - window, 0)

    lanes = tl.arange(0, tile_rows)
    heads = kv_head * group + lanes
    live = lanes < group
    dims = tl.arange(0, head_pad)
    mask = live[:, None] & (dims[None, :] < head_dim)
    top = tl.full([tile_rows], -float("inf"), tl.float32)
    total = tl.zeros([tile_rows], tl.float32)
    acc = tl.zeros([tile_rows, head_pad], tl.float32)
    for split_index in range(first // split, (length + split - 1) // split):
        offsets = (sequence.to(tl.int64) * num_splits + split_index) * (kv_heads * group) + heads
        more_acc = tl.load(part_acc + offsets[:, None] * head_dim + dims[None, :], mask=mask, other=0.0)
        more_top = tl.load(part_top + offsets, mask=live, other=-float("inf"))
        more_total = tl.load(part_total + offsets, mask=live, other=0.0)
        acc, top, total = merge_partial(acc, top, total, more_acc, more_top, more_total)
    rows = tl.zeros([tile_rows], tl.int32) + sequence
    store_rows(out, acc, top, total, sinks, rows, heads, live, kv_heads * group, head_dim, head_pad)
