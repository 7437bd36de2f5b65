"""Attention of many new tokens a sequence over its paged history and themselves, one program a query tile."""

import triton.language as tl

from radixcache_kernels.attention_tile import load_queries, split_partial, store_rows
from radixcache_kernels.jit import jit_unspecialised
from radixcache_kernels.merge import merge_partial


@jit_unspecialised("tiles", "block_tables", "seq_lens", "query_starts", "table_stride")
def prefill_kernel(
    out: tl.tensor,
    tiles: tl.tensor,
    query: tl.tensor,
    k_pool: tl.tensor,
    v_pool: tl.tensor,
    k_scales: tl.tensor,
    v_scales: tl.tensor,
    block_tables: tl.tensor,
    seq_lens: tl.tensor,
    query_starts: tl.tensor,
    sinks: tl.tensor,
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
    """Grid (tiles x kv_heads): tiles [*, 2] are a plan's: a sequence and the first of its new tokens to take.

    A tile that begins past the sequence's new tokens does nothing.
    """
    tile_tokens: tl.constexpr = tile_rows // group
    tile = tiles + tl.program_id(0) // kv_heads * 2
    kv_head = tl.program_id(0) % kv_heads
    sequence = tl.load(tile)
    first_token = tl.load(tile + 1)
    begin = tl.load(query_starts + sequence).to(tl.int32)
    end = tl.load(query_starts + sequence + 1).to(tl.int32)
    length = tl.load(seq_lens + sequence).to(tl.int32)
    if begin + first_token >= end:
        return

    lanes = tl.arange(0, tile_rows)
    tokens = first_token + lanes // group
    heads = kv_head * group + lanes % group
    live = (lanes < tile_tokens * group) & (begin + tokens < end)
    offset = length - (end - begin)
    positions = tl.where(live, offset + tokens, -1)
    first = tl.maximum(offset + first_token - window + 1, 0)
    last = tl.minimum(offset + first_token + tile_tokens, length)

    queries = load_queries(
        query,
        begin + tokens,
        heads,
        live,
        query_row_stride,
        query_head_stride,
        head_dim,
        head_pad,
        dot_type,
    )
    top = tl.full([tile_rows], -float("inf"), tl.float32)
    total = tl.zeros([tile_rows], tl.float32)
    acc = tl.zeros([tile_rows, head_pad], tl.float32)
    for split_start in range(first // split * split, last, split):
        more_acc, more_top, more_total = split_partial(
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
        acc, top, total = merge_partial(acc, top, total, more_acc, more_top, more_total)
    store_rows(
        out,
        acc,
        top,
        total,
        sinks,
        begin + tokens,
        heads,
        live,
        kv_heads * group,
        head_dim,
        head_pad,
    )
