"""A row's result is the same bits whatever the batch, the chunking, the cached length and the kernel."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from kernel_batches import SPLIT, Batch, make_batch

LENGTH, ROWS = SPLIT + 19, 24

MODELS = [
    pytest.param(2, 1, 64, torch.float32, {}, id="gqa-float32"),
    pytest.param(3, 1, 80, torch.bfloat16, {"soft_cap": 5.0, "sinks": True}, id="group3-bfloat16-cap-sinks"),
    pytest.param(1, 1, 128, torch.float16, {"sliding_window": SPLIT + 3}, id="mha-float16-window"),
]


def build(
    heads: int,
    kv_heads: int,
    head_dim: int,
    dtype: torch.dtype,
    options: dict[str, Any],
    device: torch.device,
) -> tuple[Batch, dict[str, Any]]:
    batch = make_batch(
        [LENGTH, 45, 7],
        [ROWS, 4, 7],
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        dtype=dtype,
        device=device,
        shared_tokens=16,
    )
    options = dict(options)
    if options.pop("sinks", False):
        options["sinks"] = torch.linspace(-1.0, 1.0, heads, device=device)
    return batch, options


@pytest.mark.parametrize(("heads", "kv_heads", "head_dim", "dtype", "options"), MODELS)
def test_decode_gives_the_bits_of_prefill(
    heads: int,
    kv_heads: int,
    head_dim: int,
    dtype: torch.dtype,
    options: dict[str, Any],
    device: torch.device,
) -> None:
    batch, options = build(heads, kv_heads, head_dim, dtype, options, device)
    whole = batch.run(**options)[:ROWS]
    picked = [0, 1, 4, 5, 12, 13, ROWS - 1]
    decoded = batch.select([(0, row, row + 1) for row in picked]).run(num_decodes=len(picked), **options)
    assert torch.equal(decoded, whole[picked])
    alone = batch.select([(0, 13, 14)]).run(num_decodes=1, **options)
    assert torch.equal(alone[0], whole[13])


@pytest.mark.parametrize(("heads", "kv_heads", "head_dim", "dtype", "options"), MODELS)
def test_no_chunking_changes_a_bit(
    heads: int,
    kv_heads: int,
    head_dim: int,
    dtype: torch.dtype,
    options: dict[str, Any],
    device: torch.device,
) -> None:
    batch, options = build(heads, kv_heads, head_dim, dtype, options, device)
    whole = batch.select([(0, 0, ROWS)]).run(**options)
    for cuts in ([0, 3, 11, ROWS], [0, ROWS - 1, ROWS]):
        pieces = [batch.select([(0, first, last)]).run(**options) for first, last in pairwise(cuts)]
        assert torch.equal(torch.cat(pieces), whole)
    # Neighbours before and after shift the row to other tiles and other places within a tile.
    crowd = batch.select([(1, 0, 4), (0, 5, 16), (2, 2, 7)]).run(**options)
    assert torch.equal(crowd[4:15], whole[5:16])


def test_moving_a_sequence_to_other_blocks_changes_no_bit(device: torch.device) -> None:
    batch = make_batch([40], [5], heads=2, kv_heads=1, device=device)
    moved = batch.block_tables.clone()
    order = torch.randperm(batch.k_pool.shape[0], generator=torch.Generator().manual_seed(7)).to(device)
    inverse = torch.argsort(order)
    moved = inverse[moved.long()].int()
    other = Batch(
        query=batch.query,
        k_pool=batch.k_pool[order].contiguous(),
        v_pool=batch.v_pool[order].contiguous(),
        block_tables=moved,
        seq_lens=batch.seq_lens,
        query_starts=batch.query_starts,
    )
    assert not torch.equal(moved, batch.block_tables)
    assert torch.equal(other.run(), batch.run())


def test_block_size_changes_no_bit(device: torch.device) -> None:
    batch = make_batch([33], [4], heads=2, kv_heads=1, block_size=16, device=device)
    small = Batch(
        query=batch.query,
        k_pool=batch.k_pool.view(-1, 4, *batch.k_pool.shape[2:]),
        v_pool=batch.v_pool.view(-1, 4, *batch.v_pool.shape[2:]),
        block_tables=(batch.block_tables[:, :, None] * 4 + torch.arange(4, device=device, dtype=torch.int32))
        .flatten(1)
        .contiguous(),
        seq_lens=batch.seq_lens,
        query_starts=batch.query_starts,
    )
    assert torch.equal(small.run(), batch.run())
