"""Whether all tiles that a model's attention uses give a row the same bits on the device at hand."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from radixcache_kernels.attention import paged_attention
from radixcache_kernels.formats import scales_of
from radixcache_kernels.kv_write import write_kv
from radixcache_kernels.plan_device import DevicePlan
from radixcache_kernels.planner import AttentionPlanner
from radixcache_kernels.splits import SPLIT_TOKENS, IntArray
from radixcache_kernels.tiles import Tiles, plan_options

ROWS = 40
# The last rows are in a second split that is not whole.
EXTRA = 75


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """A layer's attention over a pool.

    Attributes:
        heads, kv_heads, head_dim: query heads, KV heads, width of a head.
        dtype: of queries, keys and values.
        stored: element type of the pool, the same or that of a quantised format (see formats.py).
        block_size: tokens of a block.
        window, soft_cap: as for `paged_attention`.
    """

    heads: int
    kv_heads: int
    head_dim: int
    dtype: torch.dtype
    stored: torch.dtype
    block_size: int = 16
    window: int | None = None
    soft_cap: float | None = None


@dataclass(frozen=True, slots=True)
class _Pools:
    keys: Tensor
    values: Tensor
    k_scales: Tensor | None
    v_scales: Tensor | None


def attention_bits(
    shape: AttentionShape, device: torch.device, *, tiles: Tiles | None = None, split: int = SPLIT_TOKENS
) -> str | None:
    """Try `paged_attention`: 40 rows as a prefill, as decodes, and as decodes that share what they read.

    tiles: to try others than those that will run. Returns None if all bits are equal, else in one line what
    differs.
    """
    length = split + EXTRA
    query, pools, table = _random(shape, length, device)
    options = replace(
        plan_options(
            shape.heads,
            shape.kv_heads,
            shape.head_dim,
            shape.block_size,
            kv_bytes=pools.keys.element_size() * pools.keys.shape[-1] / shape.head_dim,
            split=split,
            sliding_window=shape.window,
            tiles=tiles,
        ),
        wide_saving=1,
    )
    lengths = np.arange(length - ROWS + 1, length + 1, dtype=np.int32)
    starts = np.arange(ROWS + 1, dtype=np.int32)
    tables = np.repeat(table[None], ROWS, axis=0)

    def attend(tables: IntArray, lengths: IntArray, starts: IntArray, *, share: bool) -> Tensor:
        plan = DevicePlan(device, shape.kv_heads)
        plan.load(AttentionPlanner(replace(options, share=share)).step(tables, lengths, starts))
        return paged_attention(
            query,
            pools.keys,
            pools.values,
            *(torch.from_numpy(indices).to(device) for indices in (tables, lengths, starts)),
            scale=shape.head_dim**-0.5,
            k_scales=pools.k_scales,
            v_scales=pools.v_scales,
            sliding_window=shape.window,
            soft_cap=shape.soft_cap,
            split=split,
            plan=plan,
        )

    whole = (table[None], lengths[-1:], starts[[0, -1]])
    # A chunk of few rows would go split by split, as decodes do.
    options = replace(options, few_rows=1)
    prefill = attend(*whole, share=False)
    apart = attend(tables, lengths, starts, share=False)
    shared = attend(tables, lengths, starts, share=True)
    name = (
        f"attention of {shape.heads} query and {shape.kv_heads} KV heads of {shape.head_dim} in {shape.dtype}"
    )
    if shape.stored != shape.dtype:
        name += f" over {shape.stored}"
    for other, kind in ((apart, "decode"), (shared, "decode of shared blocks")):
        if not torch.equal(other, prefill):
            return f"{name} gives a {kind} other bits than a prefill"
    return None


def _random(shape: AttentionShape, length: int, device: torch.device) -> tuple[Tensor, _Pools, IntArray]:
    """Queries `[ROWS, heads, head_dim]`, pools that hold one sequence of `length` tokens, its block table."""
    generator = torch.Generator(device).manual_seed(length)

    def numbers(rows: int, heads: int) -> Tensor:
        made = torch.randn(rows, heads, shape.head_dim, generator=generator, device=device)
        return made.to(shape.dtype)

    blocks = -(-length // shape.block_size)
    width = shape.head_dim // 2 if shape.stored == torch.uint8 else shape.head_dim
    room = (blocks, shape.block_size, shape.kv_heads, width)
    keys, values = (torch.zeros(room, dtype=shape.stored, device=device) for _ in range(2))
    sides = []
    for pool, is_key in ((keys, True), (values, False)):
        side = scales_of(pool, keys=is_key)
        sides.append(None if side is None else torch.zeros(side[0], dtype=side[1], device=device))
    table = np.random.default_rng(length).permutation(blocks).astype(np.int32)
    tokens = np.arange(length)
    slots = table[tokens // shape.block_size].astype(np.int64) * shape.block_size + tokens % shape.block_size
    write_kv(
        numbers(length, shape.kv_heads),
        numbers(length, shape.kv_heads),
        keys,
        values,
        torch.from_numpy(slots).to(device),
        k_scales=sides[0],
        v_scales=sides[1],
    )
    return numbers(ROWS, shape.heads), _Pools(keys, values, *sides), table
