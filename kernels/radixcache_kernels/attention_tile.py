"""What prefill and decode share: a tile of query rows of one KV head against one split of a sequence's keys.

A tile packs the query heads of one KV head (its group), for as many tokens as it takes, as rows of one matrix
product. In such a product a row's result depends neither on its neighbours nor on how many rows there are, as
long as the matrix instruction is the same (see tiles.py): each number of the result is summed over the inner
dimension in one order. So tiles of any number of rows give a row the same bits.

A sum over a tile's keys by `tl.sum` would not: its order follows how a compiler lays the tile out over
threads, which the number of rows changes. So softmax denominators are a product too, of the weights with
ones. They are then sums of the very weights, as rounded, that the values are multiplied with. A maximum is
exact in any order.
"""

import triton.language as tl

from radixcache_kernels.jit import jit
from radixcache_kernels.kv_format import add_values, score_keys
from radixcache_kernels.merge import finish, finite_top


@jit
def _tanh(x: tl.tensor) -> tl.tensor:
    decay = tl.exp2(tl.abs(x) * -2.8853900817779268)
    positive = (1.0 - decay) / (1.0 + decay)
    return tl.where(x < 0.0, -positive, positive)


@jit
def load_queries(
    query: tl.tensor,
    rows: tl.tensor,
    heads: tl.tensor,
    live: tl.tensor,
    row_stride: tl.tensor,
    head_stride: tl.tensor,
    head_dim: tl.constexpr,
    head_pad: tl.constexpr,
    dot_type: tl.constexpr,
) -> tl.tensor:
    """[tile_rows, head_pad] of the query, zero where a row or a dimension is padding."""
    dims = tl.arange(0, head_pad)
    offsets = rows.to(tl.int64) * row_stride + heads * head_stride
    mask = live[:, None] & (dims[None, :] < head_dim)
    return tl.load(query + offsets[:, None] + dims[None, :], mask=mask, other=0.0).to(dot_type)


@jit
def store_rows(
    out: tl.tensor,
    acc: tl.tensor,
    top: tl.tensor,
    total: tl.tensor,
    sinks: tl.tensor,
    rows: tl.tensor,
    heads: tl.tensor,
    live: tl.tensor,
    num_heads: tl.constexpr,
    head_dim: tl.constexpr,
    head_pad: tl.constexpr,
) -> None:
    """Normalise a tile and write its live rows to the contiguous `out` [T, num_heads, head_dim]."""
    result = finish(acc, top, total, sinks, heads, live)
    dims = tl.arange(0, head_pad)
    offsets = (rows.to(tl.int64) * num_heads + heads) * head_dim
    mask = live[:, None] & (dims[None, :] < head_dim)
    tl.store(out + offsets[:, None] + dims[None, :], result.to(out.dtype.element_ty), mask=mask)


@jit
def split_partial(
    queries: tl.tensor,
    positions: tl.tensor,
    first: tl.tensor,
    last: tl.tensor,
    split_start: tl.tensor,
    k_pool: tl.tensor,
    v_pool: tl.tensor,
    k_scales: tl.tensor,
    v_scales: tl.tensor,
    table: tl.tensor,
    kv_head: tl.tensor,
    window: tl.tensor,
    score_scale: tl.tensor,
    cap: tl.tensor,
    has_cap: tl.constexpr,
    kv_heads: tl.constexpr,
    block_size: tl.constexpr,
    head_dim: tl.constexpr,
    head_pad: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_keys: tl.constexpr,
    split: tl.constexpr,
    dot_type: tl.constexpr,
    kv_format: tl.constexpr,
) -> tl.tuple:
    """The partial result (see merge.py) of a tile over the keys [split_start, split_start + split).

    queries: [tile_rows, head_pad]; positions: [tile_rows], negative for a row that attends to nothing.
    first, last: the keys [first, last) that any row of the tile attends to; nothing else is read, not even
    its table entry. Key tiles are at fixed absolute positions, and one that a row does not attend to leaves
    the row's bits as they are, so skipping it is free.
    score_scale, cap: scores are `dot * score_scale`, or `cap * tanh(dot * score_scale)`, in units of log 2.
    """
    ones = tl.full([tile_keys, 16], 1.0, dot_type)
    top = tl.full([tile_rows], -float("inf"), tl.float32)
    totals = tl.zeros([tile_rows, 16], tl.float32)
    acc = tl.zeros([tile_rows, head_pad], tl.float32)
    begin = tl.maximum(split_start, first // tile_keys * tile_keys)
    end = tl.minimum(split_start + split, last)
    for start in range(begin, end, tile_keys):
        keys = start + tl.arange(0, tile_keys)
        used = (keys >= first) & (keys < last)
        block = tl.load(table + keys // block_size, mask=used, other=0).to(tl.int64)
        slots = block * block_size + keys % block_size
        scores = score_keys(
            queries,
            k_pool,
            k_scales,
            slots,
            used,
            kv_head,
            score_scale,
            kv_heads,
            head_dim,
            head_pad,
            kv_format,
            dot_type,
        )
        if has_cap:
            scores = cap * _tanh(scores)
        seen = (keys[None, :] <= positions[:, None]) & (keys[None, :] > positions[:, None] - window)
        scores = tl.where(seen, scores, -float("inf"))
        new_top = tl.maximum(top, tl.max(scores, 1))
        base = finite_top(new_top)
        keep = tl.exp2(top - base)
        weights = tl.exp2(scores - base[:, None])
        totals = tl.dot(weights.to(dot_type), ones, totals * keep[:, None], input_precision="ieee")
        acc = add_values(
            acc * keep[:, None],
            weights,
            v_pool,
            v_scales,
            slots,
            used,
            kv_head,
            kv_heads,
            head_dim,
            head_pad,
            kv_format,
            dot_type,
        )
        top = new_top
    return acc, top, tl.max(totals, 1)  # 16 columns of the same numbers
