"""The float64 reference itself, against torch's own attention on one contiguous sequence."""

import math

import pytest
import torch
from kernel_batches import make_batch

from radixcache_kernels.reference import gather_tokens


@pytest.mark.parametrize("window", [None, 6])
def test_reference_agrees_with_torch(window: int | None) -> None:
    length, rows = 21, 9
    batch = make_batch([length], [rows], heads=4, kv_heads=2, block_size=8, device=torch.device("cpu"))
    keys, values = (
        gather_tokens(pool, batch.block_tables[0], length) for pool in (batch.k_pool, batch.v_pool)
    )
    position = torch.arange(length - rows, length)[:, None]
    mask = torch.arange(length)[None, :] <= position
    if window is not None:
        mask &= torch.arange(length)[None, :] > position - window
    expected = torch.nn.functional.scaled_dot_product_attention(
        batch.query.transpose(0, 1).double(),
        keys.transpose(0, 1).double(),
        values.transpose(0, 1).double(),
        attn_mask=mask,
        scale=0.2,
        enable_gqa=True,
    ).transpose(0, 1)
    torch.testing.assert_close(batch.reference(scale=0.2, sliding_window=window), expected)


def test_cap_and_sink_by_hand() -> None:
    batch = make_batch([2], [1], heads=1, kv_heads=1, head_dim=64, device=torch.device("cpu"))
    keys, values = (
        gather_tokens(pool, batch.block_tables[0], 2)[:, 0].double() for pool in (batch.k_pool, batch.v_pool)
    )
    scores = [2.0 * math.tanh(float(batch.query[0, 0].double() @ key) / 2.0) for key in keys]
    weights = [math.exp(score) for score in scores]
    total = sum(weights) + math.exp(0.5)
    expected = (weights[0] * values[0] + weights[1] * values[1]) / total
    result = batch.reference(scale=1.0, soft_cap=2.0, sinks=torch.tensor([0.5]))
    torch.testing.assert_close(result[0, 0], expected)
