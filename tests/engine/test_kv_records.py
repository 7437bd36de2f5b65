"""Whole blocks leave a pool as records of bytes and come back bit for bit; views of one layer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from radixcache import PrefixCache
from radixcache.kv import records
from radixcache.kv.formats import KV_DTYPES
from radixcache.kv.layout import KVLayout, LayerGroup
from radixcache.kv.pool import PagedPool
from radixcache.kv.view import LayerView

CPU = torch.device("cpu")
BLOCKS, BLOCK_SIZE = 6, 4


def layout(kv_dtype: str, dtype: torch.dtype = torch.float32, narrow: int = 16) -> KVLayout:
    """Two kinds of layers; the sliding ones' heads are `narrow`."""
    return KVLayout(
        (
            LayerGroup((0, 2), 3, narrow, dtype, kv_dtype, window=8),
            LayerGroup((1,), 2, 32, dtype, kv_dtype),
        ),
        BLOCK_SIZE,
    )


def filled(one: KVLayout, seed: int = 0) -> PagedPool:
    """A pool in which every byte is a random one: what is moved may be anything, NaN included."""
    pool = PagedPool(one, BLOCKS, CPU)
    generator = torch.Generator().manual_seed(seed)
    for storage in pool.storages:
        as_bytes(storage).copy_(torch.randint(0, 256, as_bytes(storage).shape, generator=generator))
    return pool


def as_bytes(storage: Tensor) -> Tensor:
    return storage.view(torch.uint8)


FORMATS = [
    *((name, dtype) for name in KV_DTYPES for dtype in (torch.float32, torch.bfloat16)),
]


@pytest.mark.parametrize(("kv_dtype", "dtype"), FORMATS)
def test_blocks_come_back_bit_for_bit(kv_dtype: str, dtype: torch.dtype) -> None:
    source, target = filled(layout(kv_dtype, dtype)), filled(layout(kv_dtype, dtype), seed=1)
    assert source.layout.fingerprint == target.layout.fingerprint
    before = [as_bytes(storage).clone() for storage in target.storages]
    data = source.export([5, 0, 3])
    assert data.shape == (3, source.layout.bytes_per_block)
    assert data.dtype == torch.uint8
    target.load([1, 2, 4], data)
    for storage, old, sent in zip(target.storages, before, source.storages, strict=True):
        assert torch.equal(as_bytes(storage)[:, [1, 2, 4]], as_bytes(sent)[:, [5, 0, 3]])
        assert torch.equal(as_bytes(storage)[:, [0, 3, 5, 6]], old[:, [0, 3, 5, 6]])
    assert torch.equal(target.export([1, 2, 4]), data)


def test_a_record_is_one_stretch_of_bytes_group_by_group() -> None:
    pool = filled(layout("int8"))
    (record,) = pool.export([2])
    expected = [
        as_bytes(part)[layer, 2].flatten()
        for tensors in pool.groups
        for part in (tensors.keys, tensors.values, tensors.key_scales, tensors.value_scales)
        for layer in range(len(tensors.keys))
        if part is not None
    ]
    assert torch.equal(record, torch.cat(expected))


# 18 bytes are no whole number of words, neither are records behind such heads.
@pytest.mark.parametrize(
    ("kv_dtype", "narrow"), [("auto", 16), ("bf16", 16), ("fp8", 16), ("int8", 18), ("int4", 16)]
)
def test_kernels_move_the_same_records(kv_dtype: str, narrow: int) -> None:
    pool = filled(layout(kv_dtype, narrow=narrow))
    blocks = torch.tensor([4, 1], dtype=torch.int64)
    data = torch.full((2, pool.layout.bytes_per_block), 255, dtype=torch.uint8)
    records.move_with_kernels(pool.groups, blocks, data, to_pool=False)
    assert torch.equal(data, pool.export([4, 1]))
    others = [filled(pool.layout, seed=2) for _ in range(2)]
    records.move_with_kernels(others[0].groups, blocks, data, to_pool=True)
    others[1].load([4, 1], data)
    for first, second in zip(*(other.storages for other in others), strict=True):
        assert torch.equal(as_bytes(first), as_bytes(second))


def test_a_buffer_may_be_given_and_no_blocks_are_no_records() -> None:
    pool = filled(layout("int4"))
    out = torch.empty(2, pool.layout.bytes_per_block, dtype=torch.uint8)
    assert pool.export([0, 3], out=out) is out
    assert torch.equal(out, pool.export([0, 3]))
    assert pool.export([]).shape == (0, pool.layout.bytes_per_block)
    pool.load([], pool.export([]))


def test_bad_blocks_and_data_are_named_and_nothing_is_written() -> None:
    pool = filled(layout("int8"))
    before = [as_bytes(storage).clone() for storage in pool.storages]
    size = pool.layout.bytes_per_block
    data = torch.zeros(2, size, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"a block must be within 0\.\.5, got 6"):
        pool.load([0, 6], data)  # the null block must stay zero
    with pytest.raises(ValueError, match=r"a block must be within 0\.\.5, got -1"):
        pool.export([-1])
    with pytest.raises(ValueError, match="blocks must be distinct, got 3 twice"):
        pool.load([3, 3], data)
    with pytest.raises(ValueError, match=rf"data must be contiguous torch\.uint8 \[1, {size}\] on cpu"):
        pool.load([3], data)
    with pytest.raises(ValueError, match=r"data must be contiguous .*, got torch\.int8"):
        pool.load([3, 4], data.view(torch.int8))
    with pytest.raises(ValueError, match="out must be contiguous"):
        pool.export([3, 4], out=torch.zeros(2, 2 * size, dtype=torch.uint8)[:, ::2])
    for storage, old in zip(pool.storages, before, strict=True):
        assert torch.equal(as_bytes(storage), old)


@pytest.mark.parametrize(("kv_dtype", "dtype"), FORMATS)
@pytest.mark.parametrize("layer", [1, 2])
def test_a_view_gathers_what_was_appended_as_it_is_stored(
    kv_dtype: str, dtype: torch.dtype, layer: int
) -> None:
    pool = PagedPool(layout(kv_dtype, dtype), BLOCKS, CPU)
    group = pool.layout.group_of(layer)
    generator = torch.Generator().manual_seed(layer)
    sent = torch.randn(2, 11, group.num_kv_heads, group.head_dim, generator=generator).to(dtype)
    view = LayerView(pool, [4, 0, 5], layer)
    for first, last in ((0, 1), (1, 7), (7, 7), (7, 11)):
        view.append(sent[0, first:last], sent[1, first:last])
        assert view.num_tokens == last
    slots = torch.tensor([16, 17, 18, 19, 0, 1, 2, 3, 20, 21, 22])
    plain = PagedPool(layout(kv_dtype, dtype), BLOCKS, CPU)
    plain.write(layer, slots, sent[0], sent[1])
    for found, expected in zip(view.gather(), plain.read_slots(layer, slots), strict=True):
        assert found.dtype == dtype
        assert torch.equal(found, expected)
    for storage, expected in zip(pool.storages, plain.storages, strict=True):
        assert torch.equal(as_bytes(storage), as_bytes(expected))


def test_a_view_of_a_lease_reads_the_prefix_that_was_cached() -> None:
    cache = PrefixCache(BLOCKS, BLOCK_SIZE)
    pool = PagedPool(layout("auto"), BLOCKS, CPU)
    rows = torch.randn(2, 10, 2, 32, generator=torch.Generator().manual_seed(3))
    with cache.acquire(list(range(10))) as lease:
        view = LayerView(pool, lease, 1)
        view.append(*rows)
        lease.commit(10)
    with cache.acquire([*range(8), 77, 78]) as lease:
        assert lease.num_cached_tokens == 8
        view = LayerView(pool, lease, 1, lease.num_cached_tokens)
        view.append(rows[0, 8:], rows[1, 8:])
        for found, expected in zip(view.gather(), rows, strict=True):
            assert torch.equal(found, expected)


def test_a_view_refuses_what_does_not_fit() -> None:
    pool = PagedPool(layout("auto"), BLOCKS, CPU)
    with pytest.raises(ValueError, match=r"layer must be within 0\.\.2, got 3"):
        LayerView(pool, [0], 3)
    with pytest.raises(ValueError, match=r"num_tokens must be within 0\.\.4, .*, got 5"):
        LayerView(pool, [0], 0, 5)
    view = LayerView(pool, [0], 1)
    with pytest.raises(ValueError, match=r"key must be \[1, 2, 32\], got \[1, 3, 16\]"):
        view.append(*torch.zeros(2, 1, 3, 16))
    with pytest.raises(ValueError, match=r"value must be \[1, 2, 32\], got \[2, 2, 32\]"):
        view.append(torch.zeros(1, 2, 32), torch.zeros(2, 2, 32))
    with pytest.raises(ValueError, match=r"num_tokens must be within 0\.\.4"):
        view.append(*torch.ones(2, 5, 2, 32))
    assert view.num_tokens == 0
    assert all((storage == 0).all() for storage in pool.storages)
