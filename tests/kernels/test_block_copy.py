"""Copy-on-write copies of the first tokens of blocks."""

import pytest
import torch
from torch import Tensor

from radixcache_kernels import KernelInputError, copy_blocks
from radixcache_kernels.reference import copy_blocks_reference


def indices(device: torch.device, *values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64, device=device)


def pool(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype).to(device)


def assert_same_bits(first: Tensor, second: Tensor) -> None:
    assert torch.equal(first.contiguous().view(torch.uint8), second.contiguous().view(torch.uint8))


@pytest.mark.parametrize(
    ("block_size", "kv_heads", "head_dim", "dtype"),
    [
        (1, 2, 64, torch.float32),
        (8, 1, 80, torch.bfloat16),
        (16, 3, 96, torch.float16),
        (32, 2, 128, torch.float32),
        (64, 2, 256, torch.bfloat16),
    ],
)
def test_only_the_first_tokens_of_the_targets_change(
    block_size: int, kv_heads: int, head_dim: int, dtype: torch.dtype, device: torch.device
) -> None:
    shape = (9, block_size, kv_heads, head_dim)
    k_pool, v_pool = (pool(shape, dtype, device, seed) for seed in (1, 2))
    k_pool[3, block_size - 1] = float("nan")
    k_expected, v_expected = k_pool.clone(), v_pool.clone()
    sources, targets = indices(device, 3, 3, 0, 5), indices(device, 8, 1, 2, 7)
    counts = indices(device, block_size, block_size - 1, 1, 0)
    copy_blocks_reference(k_expected, v_expected, sources, targets, counts)
    copy_blocks(k_pool, v_pool, sources, targets, counts, debug=True)
    assert_same_bits(k_pool, k_expected)
    assert_same_bits(v_pool, v_expected)


def test_all_layers_in_one_launch(device: torch.device) -> None:
    layers = pool((3, 2, 6, 4, 2, 64), torch.float32, device, 3)
    expected = layers.clone()
    sources, targets, counts = indices(device, 0, 1), indices(device, 4, 5), indices(device, 3, 4)
    for layer in range(3):
        copy_blocks_reference(expected[layer, 0], expected[layer, 1], sources, targets, counts)
    copy_blocks(layers[:, 0], layers[:, 1], sources.int(), targets.int(), counts.int(), debug=True)
    assert_same_bits(layers, expected)


def test_no_copies_change_nothing(device: torch.device) -> None:
    k_pool = pool((2, 4, 1, 64), torch.float32, device, 4)
    before = k_pool.clone()
    copy_blocks(k_pool, k_pool.clone(), indices(device), indices(device), indices(device))
    assert_same_bits(k_pool, before)


@pytest.mark.parametrize(
    ("source", "target", "count", "message"),
    [
        ((0, 9), (1, 2), (1, 1), r"copy 1: source block id 9 is outside 0\.\.8"),
        ((0, 1), (-1, 2), (1, 1), r"copy 0: target block id -1 is outside 0\.\.8"),
        ((0, 1), (3, 2), (1, 5), "copy 1: 5 tokens do not fit a block of 4"),
        ((0, 1), (3, 3), (1, 1), "copies 0 and 1 both write block 3"),
        ((0, 3), (3, 2), (1, 1), "copy 1 reads block 3, which copy 0 writes"),
    ],
)
def test_debug_mode_names_what_is_wrong(
    source: tuple[int, ...],
    target: tuple[int, ...],
    count: tuple[int, ...],
    message: str,
    device: torch.device,
) -> None:
    k_pool = pool((9, 4, 1, 64), torch.float32, device, 5)
    before = k_pool.clone()
    arguments = [indices(device, *values) for values in (source, target, count)]
    with pytest.raises(KernelInputError, match=message):
        copy_blocks(k_pool, k_pool.clone(), *arguments, debug=True)
    assert_same_bits(k_pool, before)


def test_lists_of_different_lengths_are_refused(device: torch.device) -> None:
    k_pool = pool((9, 4, 1, 64), torch.float32, device, 6)
    with pytest.raises(KernelInputError, match=r"targets has shape \(1,\), not \[2\]"):
        copy_blocks(k_pool, k_pool.clone(), indices(device, 0, 1), indices(device, 2), indices(device, 1, 1))
