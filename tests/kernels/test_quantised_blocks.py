"""Blocks of codes take what scales them along: copies, and records for other tiers."""

import pytest
import torch
from torch import Tensor

from radixcache_kernels import KernelInputError, copy_blocks, gather_blocks, scatter_blocks
from radixcache_kernels.formats import quantise
from radixcache_kernels.reference import copy_blocks_reference, gather_blocks_reference

FORMATS = [torch.int8, torch.float8_e4m3fn, torch.uint8]
NAN = float("nan")


def same_bits(first: Tensor, second: Tensor) -> bool:
    return torch.equal(first.contiguous().view(torch.uint8), second.contiguous().view(torch.uint8))


def layers(code_type: torch.dtype, device: torch.device, head_dim: int = 16) -> list[Tensor]:
    """Keys, values and their scales of three layers and seven blocks, all different."""
    shape = (3, 7, 4, 2, head_dim)
    generator = torch.Generator().manual_seed(3)
    if code_type == torch.uint8:
        keys, values = torch.randn((2, *shape), generator=generator).to(device)
        coded = quantise(keys, code_type, keys=True), quantise(values, code_type, keys=False)
        return [coded[0][0], coded[1][0], coded[0][1], coded[1][1]]
    codes = torch.randint(-100, 100, (2, *shape), generator=generator).to(code_type).to(device)
    scales = torch.rand((2, *shape[:-1]), generator=generator).to(device)
    return [codes[0], codes[1], scales[0], scales[1]]


@pytest.mark.parametrize("code_type", FORMATS)
def test_a_copied_block_carries_its_scales(code_type: torch.dtype, device: torch.device) -> None:
    storages = layers(code_type, device)
    storages[2][:, 5, 2:] = NAN if storages[2].is_floating_point() else -1
    expected = [storage.clone() for storage in storages]
    sources, targets, counts = (torch.tensor(ids, device=device) for ids in ([0, 5], [6, 1], [4, 2]))
    for layer in range(3):
        for first, second in ((0, 1), (2, 3)):
            copy_blocks_reference(expected[first][layer], expected[second][layer], sources, targets, counts)
    k_pool, v_pool, k_scales, v_scales = storages
    copy_blocks(k_pool, v_pool, sources, targets, counts, k_scales=k_scales, v_scales=v_scales, debug=True)
    assert all(same_bits(*pair) for pair in zip(storages, expected, strict=True))


@pytest.mark.parametrize(
    ("code_type", "head_dim"),
    [(torch.int8, 16), (torch.int8, 18), (torch.float8_e4m3fn, 16), (torch.bfloat16, 16), (torch.uint8, 80)],
)
def test_blocks_leave_for_a_staging_tensor_and_come_back(
    code_type: torch.dtype, head_dim: int, device: torch.device
) -> None:
    storages = layers(code_type, device, head_dim)
    if code_type == torch.bfloat16:
        storages = storages[:2]
    scales = dict(zip(("k_scales", "v_scales"), storages[2:], strict=False))
    blocks = torch.tensor([6, 0, 3], device=device, dtype=torch.int32)
    expected = gather_blocks_reference(storages, blocks)
    staging = torch.full_like(expected, 255)
    gather_blocks(storages[0], storages[1], blocks, staging, **scales, debug=True)
    assert torch.equal(staging, expected)
    before = [storage.clone() for storage in storages]
    elsewhere = torch.tensor([1, 2, 4], device=device, dtype=torch.int32)
    scatter_blocks(storages[0], storages[1], elsewhere, staging, **scales, debug=True)
    for storage, old in zip(storages, before, strict=True):
        assert same_bits(storage[:, [1, 2, 4]], old[:, [6, 0, 3]])
        assert same_bits(storage[:, [0, 3, 5, 6]], old[:, [0, 3, 5, 6]])


def test_no_blocks_and_bad_ones(device: torch.device) -> None:
    k_pool, v_pool, k_scales, v_scales = layers(torch.int8, device)
    record = 3 * 4 * 2 * (16 + 4) * 2
    scales = {"k_scales": k_scales, "v_scales": v_scales, "debug": True}
    nothing = torch.empty(0, dtype=torch.int64, device=device)
    gather_blocks(k_pool, v_pool, nothing, torch.empty(0, record, dtype=torch.uint8, device=device), **scales)
    staging = torch.zeros(2, record, dtype=torch.uint8, device=device)
    with pytest.raises(KernelInputError, match=r"entry 1: block id 7 is outside 0\.\.6"):
        gather_blocks(k_pool, v_pool, torch.tensor([0, 7], device=device), staging, **scales)
    with pytest.raises(KernelInputError, match="entries 0 and 1 both name block 4"):
        scatter_blocks(k_pool, v_pool, torch.tensor([4, 4], device=device), staging, **scales)
    with pytest.raises(KernelInputError, match=rf"staging is .* not contiguous bytes \[2, {record}\]"):
        gather_blocks(k_pool, v_pool, torch.tensor([0, 1], device=device), staging[:, 1:], **scales)
