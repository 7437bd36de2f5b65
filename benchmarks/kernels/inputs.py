"""Random inputs of a case, as often as it takes to be larger than the L2 cache."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.kernels.cases import BLOCK_SIZE, Case, Shape
from benchmarks.kernels.pools import Pools, make_pools
from radixcache_kernels import (
    AttentionPlanner,
    DevicePlan,
    PlanOptions,
    Tiles,
    paged_attention,
    plan_options,
    write_kv,
)
from radixcache_kernels.reference import paged_attention_reference

QUANTISED_AT_ONCE = 1 << 16  # tokens

# Each round of calls reads this many times what the L2 cache holds.
L2_TIMES = 4
MOST_COPIES = 64


@dataclass(frozen=True, slots=True)
class Copy:
    """One set of sequences: block tables `[S, max_blocks]`, over blocks that no other copy uses."""

    tables: NDArray[np.int32]
    device_tables: Tensor


@dataclass(frozen=True, slots=True)
class Inputs:
    """A case's tensors on the device.

    Attributes:
        query: `[S x new tokens, heads, head_dim]`.
        pools: keys and values, as for `paged_attention`.
        copies: the same batch in other blocks; calls take turns, so that none finds its blocks in L2.
        lengths, starts: int32 `[S]`, `[S + 1]` on the host; seq_lens, query_starts: the same on the device.
        bytes_moved: what a call must at least read and write.
    """

    case: Case
    shape: Shape
    query: Tensor
    pools: Pools
    copies: list[Copy]
    lengths: NDArray[np.int32]
    starts: NDArray[np.int32]
    seq_lens: Tensor
    query_starts: Tensor
    bytes_moved: int

    @property
    def scale(self) -> float:
        """Factor of the scores."""
        return float(self.shape.head_dim**-0.5)

    def options(self, *, share: bool, tiles: Tiles | None = None, split: int | None = None) -> PlanOptions:
        """What the plan of a call depends on."""
        more = {} if split is None else {"split": split}
        return plan_options(
            self.shape.heads,
            self.shape.kv_heads,
            self.shape.head_dim,
            BLOCK_SIZE,
            kv_bytes=self.pools.bytes_per_number,
            share=share,
            tiles=tiles,
            **more,
        )

    def call(self, copy: Copy, options: PlanOptions) -> Callable[[], Tensor]:
        """Our attention over one copy, its plan made and uploaded beforehand."""
        plan = DevicePlan(self.query.device, self.shape.kv_heads)
        plan.load(AttentionPlanner(options).step(copy.tables, self.lengths, self.starts))
        out = torch.empty_like(self.query)

        def attend() -> Tensor:
            return paged_attention(
                self.query,
                self.pools.keys,
                self.pools.values,
                copy.device_tables,
                self.seq_lens,
                self.query_starts,
                scale=self.scale,
                **self.pools.scales,
                split=options.split,
                plan=plan,
                out=out,
            )

        return attend

    def reference(self, copy: Copy, sequence: int, rows: int) -> Tensor:
        """Float64 attention of the last `rows` rows of a sequence."""
        used = -(-int(self.lengths[sequence]) // BLOCK_SIZE)
        blocks = copy.device_tables[sequence, :used].long()
        keys, values = self.pools.dequantised(blocks)
        last = int(self.starts[sequence + 1])
        count = torch.tensor([0, rows], dtype=torch.int32, device=self.query.device)
        table = torch.arange(used, dtype=torch.int32, device=self.query.device)[None]
        return paged_attention_reference(
            self.query[last - rows : last],
            keys,
            values,
            table,
            self.seq_lens[sequence : sequence + 1],
            count,
            scale=self.scale,
        )

    def gathered(self, copy: Copy) -> tuple[Tensor, Tensor]:
        """Keys and values `[S, kv_heads, longest, head_dim]`, contiguous; past a sequence's end, others'."""
        keys, values = (
            pool[copy.device_tables.long()].flatten(1, 2)[:, : int(self.lengths.max())].transpose(1, 2)
            for pool in (self.pools.keys, self.pools.values)
        )
        return keys.contiguous(), values.contiguous()


def make_inputs(case: Case, shape: Shape, dtype: torch.dtype, device: torch.device, seed: int) -> Inputs:
    """Random queries, keys and values, in shuffled blocks."""
    generator = torch.Generator(device).manual_seed(seed)
    parts = {name: tokens for sequence in case.sequences for name, tokens in sequence}
    distinct = sum(parts.values())
    per_token = (
        make_pools(case.kv_format, dtype, shape, (1,), torch.device("meta")).bytes_per_block // BLOCK_SIZE
    )
    rows = len(case.sequences) * case.new_tokens
    moved = distinct * per_token + 2 * rows * shape.heads * shape.head_dim * dtype.itemsize
    copies = 1
    if device.type == "cuda":
        cache = torch.cuda.get_device_properties(device).L2_cache_size
        copies = min(MOST_COPIES, math.ceil(L2_TIMES * cache / moved))
    blocks = sum(-(-tokens // BLOCK_SIZE) for tokens in parts.values())
    num_blocks = copies * blocks
    order = np.random.default_rng(seed).permutation(num_blocks).astype(np.int32)
    tables = [_tables(case, order[i * blocks : (i + 1) * blocks]) for i in range(copies)]
    lengths = np.asarray(case.lengths, dtype=np.int32)
    starts = np.arange(len(lengths) + 1, dtype=np.int32) * np.int32(case.new_tokens)
    pools = make_pools(case.kv_format, dtype, shape, (num_blocks,), device)
    if case.kv_format == "plain":
        for pool in pools.storages:
            pool.normal_(generator=generator)
    else:
        _fill_quantised(pools, shape, dtype, generator)
    query = torch.empty((rows, shape.heads, shape.head_dim), dtype=dtype, device=device)
    return Inputs(
        case=case,
        shape=shape,
        query=query.normal_(generator=generator),
        pools=pools,
        copies=[Copy(table, torch.from_numpy(table).to(device)) for table in tables],
        lengths=lengths,
        starts=starts,
        seq_lens=torch.from_numpy(lengths).to(device),
        query_starts=torch.from_numpy(starts).to(device),
        bytes_moved=moved,
    )


def _tables(case: Case, free: NDArray[np.int32]) -> NDArray[np.int32]:
    """Block tables over the blocks `free`; parts of several sequences have the same blocks in all of them.

    A part that others follow fills whole blocks.
    """
    held: dict[str, NDArray[np.int32]] = {}
    lines = []
    for sequence in case.sequences:
        for name, tokens in sequence:
            if name not in held:
                count = -(-tokens // BLOCK_SIZE)
                held[name], free = free[:count], free[count:]
        if any(tokens % BLOCK_SIZE for _, tokens in sequence[:-1]):
            raise ValueError(f"{case.name}: a part before the last does not fill whole blocks")
        lines.append(np.concatenate([held[name] for name, _ in sequence]))
    tables = np.zeros((len(lines), max(map(len, lines))), dtype=np.int32)
    for table, line in zip(tables, lines, strict=True):
        table[: len(line)] = line
    return tables


def _fill_quantised(pools: Pools, shape: Shape, dtype: torch.dtype, generator: torch.Generator) -> None:
    device = pools.keys.device
    count = pools.keys.shape[0] * BLOCK_SIZE
    for first in range(0, count, QUANTISED_AT_ONCE):
        slots = torch.arange(first, min(first + QUANTISED_AT_ONCE, count), device=device)
        rows = torch.empty(2, len(slots), shape.kv_heads, shape.head_dim, dtype=dtype, device=device)
        rows.normal_(generator=generator)
        write_kv(rows[0], rows[1], pools.keys, pools.values, slots, **pools.scales)
