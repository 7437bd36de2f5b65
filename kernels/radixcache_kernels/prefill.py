"""Attention of many new tokens a sequence over its paged history and themselves, one program a query tile."""

import triton.language as tl

from radixcache_kernels.attention_tile import load_queries, split_partial, store_rows
from radixcache_kernels.jit import jit_unspecialised
from radixcache_kernels.merge import merge_partial


@jit_unspecialised(
    "block_tables", "seq_lens", "query_starts", "num_sequences", "first_row", "num_rows", "table_stride"
)
def prefill_kernel(
    out: tl.tensor,
    query: tl.tensor,
    k_pool: tl.tensor,
    v_pool: tl.tensor,
    block_tables: tl.tensor,
    seq_lens: tl.tensor,
    query_starts: tl.tensor,
    sinks: tl.tensor,
    num_sequences: tl.tensor,
    first_row: tl.tensor,
    num_rows: tl.tensor,
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
    """Grid (tiles, kv_heads), with tiles = (num_rows - first_row) // tile_tokens + num_sequences + 1.

    Sequence i starts at tile `(query_starts[i] - first_row) // tile_tokens + i`, which leaves room for its
    ragged last tile; the rows past the last sequence are padding, treated as one more sequence of no keys.
    """
    tile_tokens: tl.constexpr = tile_rows // group
    tile = tl.program_id(0)
    kv_head = tl.program_id(1)
    low = tl.zeros([], tl.int32)
    high = low + num_sequences
    while low < high:
        middle = (low + high + 1) // 2
        reached = (tl.load(query_starts + middle) - first_row) // tile_tokens + middle <= tile
        low = tl.where(reached, middle, low)
        high = tl.where(reached, high, middle - 1)
    sequence = low

    begin = tl.load(query_starts + sequence).to(tl.int32)
    end = tl.load(query_starts + sequence + 1, mask=sequence < num_sequences, other=num_rows).to(tl.int32)
    length = tl.load(seq_lens + sequence, mask=sequence < num_sequences, other=0).to(tl.int32)
    first_token = (tile - (begin - first_row) // tile_tokens - sequence) * tile_tokens
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
