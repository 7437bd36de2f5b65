"""Batches of sequences in a NaN-poisoned paged pool, and how close to float64 a kernel must come."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from radixcache_kernels import (
    AttentionPlan,
    AttentionPlanner,
    DevicePlan,
    PlanOptions,
    paged_attention,
    plan_options,
)
from radixcache_kernels.reference import paged_attention_reference

# A last place of the result (the interpreter truncates to bfloat16), and the rounding of the probabilities.
RELATIVE = {torch.float32: 2**-20, torch.float16: 2**-10, torch.bfloat16: 2**-7}
ABSOLUTE = {torch.float32: 3e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
SPLIT = 32


@dataclass(frozen=True, slots=True)
class Batch:
    """Arguments of paged_attention; every pool slot that holds no token of a sequence is NaN."""

    query: Tensor
    k_pool: Tensor
    v_pool: Tensor
    block_tables: Tensor
    seq_lens: Tensor
    query_starts: Tensor

    @property
    def num_rows(self) -> int:
        return int(self.query_starts[-1])

    def run(self, *, scale: float = 0.125, split: int = SPLIT, **options: Any) -> Tensor:
        """paged_attention into a NaN-poisoned output."""
        poisoned = torch.full(
            self.query.shape, float("nan"), dtype=self.query.dtype, device=self.query.device
        )
        return paged_attention(
            *self.arguments(), scale=scale, split=split, out=poisoned, debug=True, **options
        )

    def options(self, *, sliding_window: int | None = None, **options: Any) -> PlanOptions:
        """Options of plans for this batch that share whatever can be shared."""
        _, block_size, kv_heads, head_dim = self.k_pool.shape
        made_for = plan_options(
            self.query.shape[1],
            kv_heads,
            head_dim,
            block_size,
            **{"split": SPLIT, "sliding_window": sliding_window, **options},
        )
        return replace(made_for, wide_saving=1)

    def step(self, planner: AttentionPlanner) -> AttentionPlan:
        """The planner's next plan, of this batch."""
        tables, lengths, starts = (
            indices.cpu().numpy() for indices in (self.block_tables, self.seq_lens, self.query_starts)
        )
        return planner.step(tables, lengths, starts)

    def plan(self, options: PlanOptions | None = None) -> DevicePlan:
        """A plan of this batch, loaded."""
        loaded = DevicePlan(self.query.device, self.k_pool.shape[2])
        loaded.load(self.step(AttentionPlanner(options or self.options())))
        return loaded

    def reference(self, *, scale: float = 0.125, **options: Any) -> Tensor:
        return paged_attention_reference(*self.arguments(), scale=scale, **options)

    def arguments(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        return (
            self.query,
            self.k_pool,
            self.v_pool,
            self.block_tables,
            self.seq_lens,
            self.query_starts,
        )

    def select(self, rows: Sequence[tuple[int, int, int]]) -> "Batch":
        """A batch over the same pool, of (sequence, first, last): its query rows first:last as one chunk.

        first and last count from the sequence's first query row in this batch.
        """
        starts, lengths = self.query_starts.tolist(), self.seq_lens.tolist()
        chunks, seq_lens, sizes = [], [], [0]
        for sequence, first, last in rows:
            chunks.append(self.query[starts[sequence] + first : starts[sequence] + last])
            seq_lens.append(lengths[sequence] - (starts[sequence + 1] - starts[sequence]) + last)
            sizes.append(last - first)
        return replace(
            self,
            query=torch.cat(chunks),
            block_tables=self.block_tables[[sequence for sequence, _, _ in rows]].contiguous(),
            seq_lens=_int32(seq_lens, self.query.device),
            query_starts=_int32(sizes, self.query.device).cumsum(0, dtype=torch.int32),
        )


def make_batch(
    lengths: Sequence[int],
    rows: Sequence[int],
    *,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int = 64,
    block_size: int = 16,
    dtype: torch.dtype = torch.float32,
    device: torch.device,
    shared_tokens: int = 0,
    parents: Mapping[int, tuple[int, int]] | None = None,
    padding: int = 0,
) -> Batch:
    """Sequences of `lengths` tokens whose last `rows` are queried, in shuffled blocks of a poisoned pool.

    All sequences share the blocks of their first shared_tokens tokens, and those in `parents` the blocks of
    that many first tokens of an earlier sequence (multiples of block_size). `padding` rows without a sequence
    follow. Unused table entries name a block of NaNs.
    """
    generator = torch.Generator().manual_seed(len(lengths) * 1000 + sum(lengths))
    needed = [-(-length // block_size) for length in lengths]
    num_blocks = sum(needed) + 2
    shuffled = (torch.randperm(num_blocks - 1, generator=generator) + 1).tolist()
    pools = torch.full((2, num_blocks, block_size, kv_heads, head_dim), float("nan"), dtype=dtype)
    tables = torch.zeros(len(lengths), max(needed, default=0) + 1, dtype=torch.int32)
    shared = shared_tokens // block_size
    longest = max(range(len(lengths)), key=lengths.__getitem__, default=0)
    prefix = [shuffled.pop() for _ in range(min(shared, needed[longest]))] if lengths else []
    for sequence, length in enumerate(lengths):
        blocks = prefix[: needed[sequence]]
        if parents and sequence in parents:
            parent, tokens = parents[sequence]
            blocks = tables[parent, : tokens // block_size].tolist()
        blocks = blocks + [shuffled.pop() for _ in range(needed[sequence] - len(blocks))]
        tables[sequence, : len(blocks)] = _int32(blocks)
        for token in range(length):
            slot = pools[:, blocks[token // block_size], token % block_size]
            if slot.isnan().any():
                slot.copy_(torch.randn(slot.shape, generator=generator))
    total = sum(rows)
    query = torch.randn(total + padding, heads, head_dim, generator=generator) * 2.0
    query[total:] = float("nan")
    return Batch(
        query=query.to(dtype).to(device),
        k_pool=pools[0].to(device),
        v_pool=pools[1].to(device),
        block_tables=tables.to(device),
        seq_lens=_int32(lengths, device),
        query_starts=_int32([0, *rows], device).cumsum(0, dtype=torch.int32),
    )


def assert_close_to_reference(batch: Batch, result: Tensor, **options: Any) -> None:
    """`result` is within the dtype's tolerance of float64 everywhere, padding rows (zeros) included."""
    assert result.dtype == batch.query.dtype
    expected = batch.reference(**options)
    kind = result.dtype
    torch.testing.assert_close(result.double(), expected, rtol=RELATIVE[kind], atol=ABSOLUTE[kind])


def _int32(values: Sequence[int], device: torch.device | None = None) -> Tensor:
    return torch.tensor(list(values), dtype=torch.int32, device=device)
