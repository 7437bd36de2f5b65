"""What the kernels must compute, written plainly in torch; attention in float64. For tests, not for speed."""

import math

import torch
from torch import Tensor

from radixcache_kernels.kv_format import CODES, FULL_SCALE
from radixcache_kernels.kv_int4 import KEY_BITS, VALUE_BITS, group_of


def write_kv_reference(key: Tensor, value: Tensor, k_pool: Tensor, v_pool: Tensor, slots: Tensor) -> None:
    """`write_kv`: row i of key and value goes to slot slots[i] of the pools; negative slots are skipped."""
    block_size = k_pool.shape[1]
    for row, slot in enumerate(slots.tolist()):
        if slot >= 0:
            k_pool[slot // block_size, slot % block_size] = key[row]
            v_pool[slot // block_size, slot % block_size] = value[row]


def quantise_reference(rows: Tensor, code_type: torch.dtype) -> tuple[Tensor, Tensor]:
    """Codes `[..., head_dim]` and float32 scales `[...]`: the greatest number becomes the greatest code."""
    rows = rows.float()
    scales = _divided(rows.abs().amax(-1), FULL_SCALE[CODES[code_type]])
    steps = torch.where(scales > 0, scales, 1.0).unsqueeze(-1)
    codes = (rows / steps).clamp(-FULL_SCALE[CODES[code_type]], FULL_SCALE[CODES[code_type]])
    return (codes.round() if code_type == torch.int8 else codes).to(code_type), scales


def dequantise_reference(codes: Tensor, scales: Tensor) -> Tensor:
    """What codes and scales stand for, in float64."""
    return codes.double() * scales.double().unsqueeze(-1)


def quantise_int4_reference(rows: Tensor, *, keys: bool) -> tuple[Tensor, Tensor]:
    """Codes and int16 words (see kv_int4.py) of `[n, heads, head_dim]`, a group at a time."""
    group = group_of(rows.shape[-1])
    bits = KEY_BITS if keys else VALUE_BITS
    parts = rows.float().reshape(*rows.shape[:-1], -1, group)
    zeros = _halved(parts.amin(-1), up=False)
    steps = _halved(_divided(parts.amax(-1) - zeros, 2**bits - 1), up=True)
    codes = (parts - zeros.unsqueeze(-1)) / torch.where(steps > 0, steps, 1.0).unsqueeze(-1)
    codes = codes.round().clamp(max=2**bits - 1).int().flatten(-2)
    low, high = codes & 15, (codes >> 4).reshape(*rows.shape[:-1], -1, 8)
    packed = (low[..., 0::2] | low[..., 1::2] << 4).to(torch.uint8)
    words = [(part.view(torch.int32) >> 16).to(torch.int16) for part in (zeros, steps)]
    if keys:
        words.append((high << torch.arange(0, 16, 2, device=high.device)).sum(-1).to(torch.int16))
    return packed, torch.cat(words, dim=-1)


def dequantise_int4_reference(packed: Tensor, words: Tensor) -> Tensor:
    """What `[..., head_dim // 2]` bytes and their words stand for, in float64."""
    head_dim = packed.shape[-1] * 2
    groups = head_dim // group_of(head_dim)
    codes = torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2).int()
    high = words[..., 2 * groups :].int()
    if high.shape[-1]:
        codes += torch.stack([(high >> 2 * place) & 3 for place in range(8)], dim=-1).flatten(-2) << 4
    zeros, steps = (words[..., : 2 * groups].int() << 16).view(torch.float32).double().chunk(2, dim=-1)
    parts = codes.view(*zeros.shape, -1) * steps.unsqueeze(-1) + zeros.unsqueeze(-1)
    return parts.flatten(-2)


def _divided(numbers: Tensor, divisor: float) -> Tensor:
    """The correctly rounded quotients. Told a plain number, torch multiplies by its reciprocal on a GPU."""
    return numbers / torch.full_like(numbers, divisor)


def _halved(numbers: Tensor, *, up: bool) -> Tensor:
    """float32 rounded up or down to what bfloat16 holds."""
    near = numbers.bfloat16()
    other = torch.nextafter(near, torch.full_like(near, math.inf if up else -math.inf))
    outside = near.float() < numbers if up else near.float() > numbers
    return torch.where(outside, other, near).float()


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
