"""Prefill over a cached prefix against float64, over models' shapes and at the edges of blocks and splits."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from kernel_batches import SPLIT, assert_close_to_reference, make_batch

from radixcache_kernels import paged_attention

F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16


@dataclass(frozen=True)
class Case:
    heads: int
    kv_heads: int
    head_dim: int
    block_size: int
    dtype: torch.dtype
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        extra = "-".join(f"{name}{value}" for name, value in self.options.items())
        shape = f"h{self.heads}kv{self.kv_heads}d{self.head_dim}b{self.block_size}"
        return f"{shape}-{str(self.dtype).removeprefix('torch.')}{'-' if extra else ''}{extra}"


CASES = [
    Case(2, 2, 64, 16, F32),
    Case(2, 2, 80, 1, F16, {"sliding_window": 7}),
    Case(1, 1, 96, 8, BF16, {"soft_cap": 5.0}),
    Case(4, 1, 128, 32, F32, {"sinks": True, "sliding_window": 40}),
    Case(4, 1, 256, 64, BF16, {"soft_cap": 5.0, "sliding_window": 33}),
    Case(6, 2, 64, 16, BF16, {"sinks": True}),
    Case(9, 3, 64, 8, F32, {"soft_cap": 5.0}),
    Case(8, 2, 80, 32, F32, {"soft_cap": 5.0, "sinks": True, "sliding_window": 20}),
    Case(5, 1, 96, 64, F16),
    Case(4, 2, 128, 1, F16, {"sinks": True}),
    Case(2, 1, 256, 8, F32),
    Case(20, 1, 64, 16, F16, {"sliding_window": 16}),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_chunks_over_a_cached_prefix_match_float64(case: Case, device: torch.device) -> None:
    batch = make_batch(
        [SPLIT + 9, 5],
        [6, 5],
        heads=case.heads,
        kv_heads=case.kv_heads,
        head_dim=case.head_dim,
        block_size=case.block_size,
        dtype=case.dtype,
        device=device,
    )
    options = dict(case.options)
    if options.pop("sinks", False):
        options["sinks"] = torch.linspace(-2.0, 3.0, case.heads, device=device)
    assert_close_to_reference(batch, batch.run(**options), **options)


@pytest.mark.parametrize("length", [1, 15, 16, 17, SPLIT - 1, SPLIT, SPLIT + 1])
def test_lengths_at_the_edges_of_blocks_and_splits(length: int, device: torch.device) -> None:
    batch = make_batch([length, length], [length, 1], heads=2, kv_heads=1, device=device)
    assert_close_to_reference(batch, batch.run())


def test_default_split_over_several_key_tiles(device: torch.device) -> None:
    batch = make_batch([257, 300], [2, 3], heads=2, kv_heads=1, device=device)
    assert_close_to_reference(batch, batch.run(split=256))


def test_sequences_without_rows_or_tokens_and_padding_rows(device: torch.device) -> None:
    batch = make_batch([20, 0, 33, 0, 4], [0, 0, 3, 1, 4], padding=13, device=device)
    result = batch.run()
    assert_close_to_reference(batch, result)
    assert torch.equal(result[3], torch.zeros_like(result[3]))
    assert torch.equal(result[batch.num_rows :], torch.zeros_like(result[batch.num_rows :]))


def test_padding_rows_are_zero_with_sinks_too(device: torch.device) -> None:
    batch = make_batch([4], [2], padding=3, device=device)
    sinks = torch.full((4,), 2.0, device=device)
    assert_close_to_reference(batch, batch.run(sinks=sinks), sinks=sinks)


def test_a_batch_of_nothing(device: torch.device) -> None:
    assert make_batch([], [], device=device).run().shape == (0, 4, 64)
    assert make_batch([9], [0], device=device).run().shape == (0, 4, 64)
    padding_only = make_batch([], [], padding=5, device=device)
    assert torch.equal(padding_only.run(), torch.zeros(5, 4, 64, device=device))


@pytest.mark.parametrize("window", [1, 5, 16])
def test_window_no_longer_than_a_block(window: int, device: torch.device) -> None:
    batch = make_batch([SPLIT + 6], [9], heads=2, kv_heads=1, device=device)
    assert_close_to_reference(batch, batch.run(sliding_window=window), sliding_window=window)


def test_blocks_that_left_the_window_are_never_touched(device: torch.device) -> None:
    batch = make_batch([70], [3], heads=2, kv_heads=1, device=device)
    window = 10
    freed = (70 - 3 - window + 1) // 16
    tables = batch.block_tables.clone()
    tables[0, :freed] = 1 << 30
    result = replace(batch, block_tables=tables).run(sliding_window=window)
    assert_close_to_reference(batch, result, sliding_window=window)


def test_shared_blocks(device: torch.device) -> None:
    batch = make_batch([70, 50, 34], [2, 3, 2], heads=2, kv_heads=1, shared_tokens=32, device=device)
    assert (batch.block_tables[:, :2] == batch.block_tables[0, :2]).all()
    assert_close_to_reference(batch, batch.run())


def test_strided_query_rows_and_int64_indices(device: torch.device) -> None:
    batch = make_batch([21], [6], device=device)
    transposed = batch.query.transpose(0, 1).contiguous().transpose(0, 1)
    assert not transposed.is_contiguous()
    long = replace(
        batch,
        query=transposed,
        block_tables=batch.block_tables.long(),
        seq_lens=batch.seq_lens.long(),
        query_starts=batch.query_starts.long(),
    )
    assert torch.equal(long.run(), batch.run())


def test_allocates_its_own_result(device: torch.device) -> None:
    batch = make_batch([21], [6], device=device)
    result = paged_attention(*batch.arguments(), scale=0.125, split=SPLIT)
    assert torch.equal(result, batch.run())


def test_large_scores_do_not_overflow(device: torch.device) -> None:
    batch = make_batch([40], [4], heads=2, kv_heads=1, device=device)
    result = batch.run(scale=100.0)
    torch.testing.assert_close(result.double(), batch.reference(scale=100.0), rtol=0.0, atol=2e-3)


@pytest.mark.gpu
def test_long_history_and_many_sequences_at_once(device: torch.device) -> None:
    lengths = [4000, *range(1, 200)]
    rows = [100, *(min(length, 3) for length in lengths[1:])]
    batch = make_batch(lengths, rows, heads=8, kv_heads=2, head_dim=128, dtype=BF16, device=device)
    assert_close_to_reference(batch, batch.run(split=256))
