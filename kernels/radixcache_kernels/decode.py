"""Attention split by split: a launch over work items of equal size, then a merge of each row's splits."""

import triton.language as tl

from radixcache_kernels.attention_tile import load_queries, split_partial, store_rows
from radixcache_kernels.jit import jit_unspecialised
from radixcache_kernels.merge import merge_partial


@jit_unspecialised("items", "num_items", "rows", "block_tables", "seq_lens", "query_starts", "table_stride")
def decode_items_kernel(
    part_acc: tl.tensor,
    part_top: tl.tensor,
    part_total: tl.tensor,
    items: tl.tensor,
    num_items: tl.tensor,
    rows: tl.tensor,
    query: tl.tensor,
    k_pool: tl.tensor,
    v_pool: tl.tensor,
    k_scales: tl.tensor,
    v_scales: tl.tensor,
    block_tables: tl.tensor,
    seq_lens: tl.tensor,
    query_starts: tl.tensor,
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
    kv_format: tl.constexpr,
) -> None:
    """Grid of any size: the programs share out num_items[0] items x kv_heads, the heads of an item together.

    items [*, 4] and rows [*, 3] are those of a plan (see plan.py). Writes the partial results part_acc
    [partials, heads, head_dim], part_top and part_total [partials, heads] of the splits that each row attends
    to.
    An item that a row does not attend to (yet, or any more) leaves the row's place alone.
    """
    tasks = tl.load(num_items) * kv_heads
    for task in range(tl.program_id(0), tasks, tl.num_programs(0)):
        item = items + task // kv_heads * 4
        kv_head = task % kv_heads
        split_index = tl.load(item)
        first_row = tl.load(item + 1)
        num_rows = tl.load(item + 2)
        sequence = tl.load(item + 3)

        lanes = tl.arange(0, tile_rows)
        heads = kv_head * group + lanes % group
        used = lanes // group < num_rows
        row = rows + (first_row + lanes // group) * 3
        query_rows = tl.load(row, mask=used, other=0)
        owners = tl.load(row + 1, mask=used, other=0)
        base = tl.load(row + 2, mask=used, other=0)
        lengths = tl.load(seq_lens + owners, mask=used, other=0).to(tl.int32)
        ends = tl.load(query_starts + owners + 1, mask=used, other=0).to(tl.int32)
        positions = tl.where(used, lengths - ends + query_rows, -1)

        split_start = split_index * split
        live = (positions >= split_start) & (positions - window < split_start + split - 1)
        positions = tl.where(live, positions, -1)
        last = tl.max(positions) + 1
        first = tl.maximum(tl.min(tl.where(live, positions, 1 << 30)) - window + 1, 0)
        if last > 0:
            queries = load_queries(
                query,
                query_rows,
                heads,
                live,
                query_row_stride,
                query_head_stride,
                head_dim,
                head_pad,
                dot_type,
            )
            acc, top, total = split_partial(
                queries,
                positions,
                first,
                last,
                split_start,
                k_pool,
                v_pool,
                k_scales,
                v_scales,
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
                kv_format,
            )
            offsets = (base + split_index).to(tl.int64) * (kv_heads * group) + heads
            dims = tl.arange(0, head_pad)
            mask = live[:, None] & (dims[None, :] < head_dim)
            tl.store(part_acc + offsets[:, None] * head_dim + dims[None, :], acc, mask=mask)
            tl.store(part_top + offsets, top, mask=live)
            tl.store(part_total + offsets, total, mask=live)


@jit_unspecialised("rows", "num_rows", "seq_lens", "query_starts")
def decode_merge_kernel(
    out: tl.tensor,
    part_acc: tl.tensor,
    part_top: tl.tensor,
    part_total: tl.tensor,
    rows: tl.tensor,
    num_rows: tl.tensor,
    seq_lens: tl.tensor,
    query_starts: tl.tensor,
    sinks: tl.tensor,
    window: tl.tensor,
    group: tl.constexpr,
    kv_heads: tl.constexpr,
    head_dim: tl.constexpr,
    head_pad: tl.constexpr,
    tile_heads: tl.constexpr,
    split: tl.constexpr,
) -> None:
    """Grid (rows, kv_heads): merges a row's splits from first to last and writes the row of `out`.

    Programs past num_rows[0] do nothing. tile_heads: a power of two of at least group.
    """
    if tl.program_id(0) >= tl.load(num_rows):
        return
    row = rows + tl.program_id(0) * 3
    kv_head = tl.program_id(1)
    query_row = tl.load(row)
    owner = tl.load(row + 1)
    base = tl.load(row + 2)
    length = tl.load(seq_lens + owner).to(tl.int32)
    position = length - tl.load(query_starts + owner + 1).to(tl.int32) + query_row
    first = tl.maximum(position - window + 1, 0)

    lanes = tl.arange(0, tile_heads)
    heads = kv_head * group + lanes
    live = lanes < group
    dims = tl.arange(0, head_pad)
    mask = live[:, None] & (dims[None, :] < head_dim)
    top = tl.full([tile_heads], -float("inf"), tl.float32)
    total = tl.zeros([tile_heads], tl.float32)
    acc = tl.zeros([tile_heads, head_pad], tl.float32)
    # Merging is a chain, and there is no matrix product here: loads run ahead only when told to.
    for split_index in tl.range(first // split, (position + split) // split, num_stages=4):
        offsets = (base + split_index).to(tl.int64) * (kv_heads * group) + heads
        more_acc = tl.load(part_acc + offsets[:, None] * head_dim + dims[None, :], mask=mask, other=0.0)
        more_top = tl.load(part_top + offsets, mask=live, other=-float("inf"))
        more_total = tl.load(part_total + offsets, mask=live, other=0.0)
        acc, top, total = merge_partial(acc, top, total, more_acc, more_top, more_total)
    query_rows = tl.zeros([tile_heads], tl.int32) + query_row
    store_rows(out, acc, top, total, sinks, query_rows, heads, live, kv_heads * group, head_dim, head_pad)
