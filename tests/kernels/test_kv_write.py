"""Writing keys and values to their slots."""

import pytest
import torch
from torch import Tensor

from radixcache_kernels import KernelInputError, write_kv
from radixcache_kernels.reference import write_kv_reference


def pools(
    block_size: int, kv_heads: int, head_dim: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Two pools of 64 slots, all different numbers."""
    shape = (64 // block_size, block_size, kv_heads, head_dim)
    size = 64 * kv_heads * head_dim
    values = torch.linspace(-8.0, 8.0, 2 * size).view(2, *shape).to(dtype).to(device)
    return values[0].clone(), values[1].clone()


def rows(count: int, kv_heads: int, head_dim: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, kv_heads, head_dim, generator=generator).to(dtype).to(device)


def assert_same_bits(first: Tensor, second: Tensor) -> None:
    assert torch.equal(first.view(torch.uint8), second.view(torch.uint8))


@pytest.mark.parametrize(
    ("block_size", "kv_heads", "head_dim", "dtype"),
    [
        (1, 1, 64, torch.float32),
        (8, 3, 80, torch.float16),
        (16, 2, 96, torch.bfloat16),
        (32, 8, 128, torch.float32),
        (64, 12, 256, torch.bfloat16),
    ],
)
def test_rows_land_in_their_slots_and_nothing_else_changes(
    block_size: int, kv_heads: int, head_dim: int, dtype: torch.dtype, device: torch.device
) -> None:
    slots = torch.tensor([63, 0, -1, 17, 16, 5, -7, 31], device=device)
    key, value = (rows(count, kv_heads, head_dim, dtype, device)[:8] for count in (8, 9))
    k_pool, v_pool = pools(block_size, kv_heads, head_dim, dtype, device)
    k_expected, v_expected = k_pool.clone(), v_pool.clone()
    write_kv_reference(key, value, k_expected, v_expected, slots)
    write_kv(key, value, k_pool, v_pool, slots, debug=True)
    assert_same_bits(k_pool, k_expected)
    assert_same_bits(v_pool, v_expected)


def test_strided_rows_of_a_fused_projection(device: torch.device) -> None:
    fused = rows(5, 2 + 3 + 3, 64, torch.float32, device)
    heads_first = fused[:, 5:].transpose(0, 1).contiguous().transpose(0, 1)
    k_pool, v_pool = pools(16, 3, 64, torch.float32, device)
    k_expected, v_expected = k_pool.clone(), v_pool.clone()
    slots = torch.tensor([3, 4, 5, 60, 61], device=device, dtype=torch.int32)
    write_kv_reference(fused[:, 2:5], fused[:, 5:], k_expected, v_expected, slots)
    write_kv(fused[:, 2:5], heads_first, k_pool, v_pool, slots)
    assert_same_bits(k_pool, k_expected)
    assert_same_bits(v_pool, v_expected)


def test_no_rows_write_nothing(device: torch.device) -> None:
    k_pool, v_pool = pools(16, 1, 64, torch.float32, device)
    before = k_pool.clone()
    nothing = rows(0, 1, 64, torch.float32, device)
    write_kv(nothing, nothing, k_pool, v_pool, torch.empty(0, dtype=torch.int64, device=device))
    assert_same_bits(k_pool, before)


def test_debug_mode_names_the_row_and_the_slot(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    k_pool, v_pool = pools(16, 1, 64, torch.float32, device)
    before = k_pool.clone()
    key = rows(3, 1, 64, torch.float32, device)
    with pytest.raises(KernelInputError, match=r"row 2: slot 64 is outside 0\.\.63"):
        write_kv(key, key, k_pool, v_pool, torch.tensor([0, 1, 64], device=device), debug=True)
    monkeypatch.setenv("RADIXCACHE_DEBUG", "1")
    with pytest.raises(KernelInputError, match="rows 0 and 2 both write slot 9"):
        write_kv(key, key, k_pool, v_pool, torch.tensor([9, 1, 9], device=device))
    assert_same_bits(k_pool, before)


def test_shapes_and_types_that_do_not_fit_are_refused(device: torch.device) -> None:
    k_pool, v_pool = pools(16, 2, 64, torch.float32, device)
    key = rows(3, 2, 64, torch.float32, device)
    slots = torch.arange(3, device=device)
    with pytest.raises(KernelInputError, match=r"key has shape \(3, 1, 64\), not \[T, 2, 64\]"):
        write_kv(key[:, :1], key, k_pool, v_pool, slots)
    with pytest.raises(KernelInputError, match=r"value holds torch\.float64"):
        write_kv(key, key.double(), k_pool, v_pool, slots)
    with pytest.raises(KernelInputError, match=r"slots has shape \(2,\), not \[3\]"):
        write_kv(key, key, k_pool, v_pool, slots[:2])
    with pytest.raises(KernelInputError, match=r"slots holds torch\.float32"):
        write_kv(key, key, k_pool, v_pool, slots.float())
    with pytest.raises(KernelInputError, match=r"v_pool is \(4, 16, 1, 64\)"):
        write_kv(key, key, k_pool, v_pool[:, :, :1], slots)
    with pytest.raises(KernelInputError, match="k_pool is not contiguous"):
        write_kv(key, key, k_pool.transpose(0, 1), v_pool.transpose(0, 1), slots)
