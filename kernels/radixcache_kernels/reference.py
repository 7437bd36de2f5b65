"""What the kernels must compute, written plainly in torch; attention in float64. For tests, not for speed.

What pools of codes hold is defined in formats.py.
"""

import math

import torch
from torch import Tensor


def write_kv_reference(key: Tensor, value: Tensor, k_pool: Tensor, v_pool: Tensor, slots: Tensor) -> None:
    """`write_kv`: row i of key and value goes to slot slots[i] of the pools; negative slots are skipped."""
    block_size = k_pool.shape[1]
    for row, slot in enumerate(slots.tolist()):
        if slot >= 0:
            k_pool[slot // block_size, slot % block_size] = key[row]
            v_pool[slot // block_size, slot % block_size] = value[row]


def gather_blocks_reference(storages: list[Tensor], blocks: Tensor) -> Tensor:
    """`gather_blocks` of keys, values and perhaps scales, each `[layers, num_blocks, ...]`."""
    parts = [storage[:, blocks.long()].transpose(0, 1).flatten(1) for storage in storages]
    return torch.cat([part.contiguous().view(torch.uint8) for part in parts], dim=1)


def copy_blocks_reference(
    k_pool: Tensor, v_pool: Tensor, sources: Tensor, targets: Tensor, num_tokens: Tensor
) -> None:
    """`copy_blocks` on one layer: num_tokens[i] tokens of block sources[i] go to block targets[i]."""
    for source, target, tokens in zip(sources.tolist(), targets.tolist(), num_tokens.tolist(), strict=True):
        for pool in (k_pool, v_pool):
            pool[target, :tokens] = pool[source, :tokens]


def gather_tokens(pool: Tensor, table: Tensor, length: int) -> Tensor:
    """The first `length` tokens of a sequence from one pool: [length, kv_heads, head_dim]."""
    block_size = pool.shape[1]
    blocks = table[: math.ceil(length / block_size)].long()
    return pool[blocks].flatten(0, 1)[:length]


def paged_attention_reference(
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
) -> Tensor:
    """`paged_attention` in float64: [T, heads, head_dim]; padding rows and empty sequences are zeros."""
    out = torch.zeros(query.shape, dtype=torch.float64, device=query.device)
    group = query.shape[1] // k_pool.shape[2]
    starts = query_starts.tolist()
    for sequence, length in enumerate(seq_lens.tolist()):
        begin, end = starts[sequence], starts[sequence + 1]
        if length == 0 or begin == end:
            continue
        keys = gather_tokens(k_pool, block_tables[sequence], length).double().repeat_interleave(group, dim=1)
        values = (
            gather_tokens(v_pool, block_tables[sequence], length).double().repeat_interleave(group, dim=1)
        )
        scores = torch.einsum("thd,khd->htk", query[begin:end].double(), keys) * scale
        if soft_cap is not None:
            scores = soft_cap * torch.tanh(scores / soft_cap)
        position = torch.arange(length - (end - begin), length, device=query.device)[:, None]
        key_position = torch.arange(length, device=query.device)[None, :]
        seen = key_position <= position
        if sliding_window is not None:
            seen &= key_position > position - sliding_window
        scores = scores.masked_fill(~seen, -math.inf)
        if sinks is not None:
            extra = sinks.double()[:, None, None].expand(-1, end - begin, 1)
            scores = torch.cat([scores, extra], dim=-1)
        weights = torch.softmax(scores, dim=-1)[..., :length]
        out[begin:end] = torch.einsum("htk,khd->thd", weights, values)
    return out
