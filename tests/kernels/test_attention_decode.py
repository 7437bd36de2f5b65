"""Split decode against float64: one query row a sequence, alone and before prefill chunks in one call."""

from typing import Any

import pytest
import torch
from kernel_batches import SPLIT, assert_close_to_reference, make_batch

F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim", "block_size", "dtype", "options"),
    [
        (2, 2, 64, 16, F32, {}),
        (4, 1, 64, 1, BF16, {"sliding_window": 40}),
        (3, 1, 80, 8, F32, {"soft_cap": 5.0}),
        (2, 1, 96, 32, F16, {"sinks": True, "sliding_window": 5}),
        (4, 2, 128, 16, BF16, {"soft_cap": 5.0, "sinks": True}),
        (2, 1, 256, 64, F32, {"sinks": True, "soft_cap": 5.0, "sliding_window": 33}),
        (20, 1, 64, 16, F16, {}),
    ],
)
def test_decode_matches_float64(
    heads: int,
    kv_heads: int,
    head_dim: int,
    block_size: int,
    dtype: torch.dtype,
    options: dict[str, Any],
    device: torch.device,
) -> None:
    batch = make_batch(
        [2 * SPLIT + 6, 3],
        [1, 1],
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        block_size=block_size,
        dtype=dtype,
        device=device,
    )
    options = dict(options)
    if options.pop("sinks", False):
        options["sinks"] = torch.linspace(-2.0, 3.0, heads, device=device)
    assert_close_to_reference(batch, batch.run(num_decodes=2, **options), **options)


@pytest.mark.usefixtures("poisoned_memory")
def test_lengths_at_the_edges_of_blocks_and_splits(device: torch.device) -> None:
    lengths = [1, 15, 16, 17, SPLIT - 1, SPLIT, SPLIT + 1, 2 * SPLIT, 2 * SPLIT + 1]
    batch = make_batch(lengths, [1] * len(lengths), heads=2, kv_heads=1, device=device)
    assert_close_to_reference(batch, batch.run(num_decodes=len(lengths)))


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("window", [1, 5, SPLIT, SPLIT + 1])
def test_windows_that_leave_whole_splits_behind(window: int, device: torch.device) -> None:
    batch = make_batch([70, 2 * SPLIT, 4], [1, 1, 1], heads=2, kv_heads=1, device=device)
    assert_close_to_reference(batch, batch.run(num_decodes=3, sliding_window=window), sliding_window=window)


@pytest.mark.usefixtures("poisoned_memory")
def test_decodes_before_prefills_and_padding_in_one_call(device: torch.device) -> None:
    batch = make_batch([40, 0, 17, 38, 6], [1, 1, 1, 5, 6], padding=4, device=device)
    assert_close_to_reference(batch, batch.run(num_decodes=3))


def test_padding_rows_after_decodes_are_zero(device: torch.device) -> None:
    batch = make_batch([9, 20], [1, 1], heads=2, kv_heads=1, padding=6, device=device)
    assert_close_to_reference(batch, batch.run(num_decodes=2))


def test_shared_blocks(device: torch.device) -> None:
    batch = make_batch([60, 50, 49], [1, 1, 1], heads=2, kv_heads=1, shared_tokens=48, device=device)
    assert_close_to_reference(batch, batch.run(num_decodes=3))


@pytest.mark.gpu
def test_a_thousand_ragged_sequences(device: torch.device) -> None:
    lengths = [1 + (37 * sequence) % 300 for sequence in range(1000)]
    batch = make_batch(lengths, [1] * 1000, heads=8, kv_heads=2, dtype=BF16, device=device)
    assert_close_to_reference(batch, batch.run(num_decodes=1000, split=256))
