"""The free list and the references to blocks."""

from __future__ import annotations

import pytest

from radixcache.cache.blocks import BlockAllocator, block_ids, first_block
from radixcache.tokens import pack


def test_every_block_is_handed_out_once() -> None:
    blocks = BlockAllocator(10)
    taken = blocks.allocate(3) + blocks.allocate(0) + blocks.allocate(1) + blocks.allocate(6)
    assert sorted(block_ids(taken)) == list(range(10))
    assert blocks.num_free == 0


def test_freed_blocks_come_first() -> None:
    blocks = BlockAllocator(10)
    first = blocks.allocate(4)
    blocks.drop(first[4:12])
    assert blocks.num_free == 8
    assert sorted(block_ids(blocks.allocate(3))) == sorted([*block_ids(first[4:12]), 4])
    assert blocks.num_free == 5


def test_new_ids_are_handed_out_in_order_however_many_are_taken() -> None:
    blocks = BlockAllocator(20_000)
    taken = b"".join(blocks.allocate(count) for count in (1, 4000, 5000, 2, 0, 10_000, 997))
    assert block_ids(taken) == list(range(20_000))
    assert blocks.num_free == 0
    assert blocks.free_ids() == []


def test_taking_too_many_changes_nothing() -> None:
    blocks = BlockAllocator(4)
    kept = blocks.allocate(2)
    with pytest.raises(AssertionError, match="3 blocks taken of 2 free"):
        blocks.allocate(3)
    assert sorted(block_ids(kept) + blocks.free_ids()) == [0, 1, 2, 3]


def test_a_shared_block_is_free_when_its_last_reference_is_dropped() -> None:
    blocks = BlockAllocator(3)
    shared, alone = block_ids(blocks.allocate(2))
    blocks.share(shared)
    blocks.share(shared)
    blocks.drop(pack([shared, alone]))
    assert sorted(blocks.free_ids()) == sorted([alone, 2])
    assert blocks.drop_one(shared)
    assert blocks.num_free == 2
    assert blocks.extra == {}
    assert blocks.drop_one(shared)
    assert sorted(blocks.free_ids()) == [0, 1, 2]
    blocks.share(first_block(blocks.allocate(1)))
    assert len(blocks.extra) == 1


def test_clear_takes_everything_back() -> None:
    blocks = BlockAllocator(3)
    blocks.share(first_block(blocks.allocate(2)))
    blocks.clear()
    assert blocks.free_ids() == [0, 1, 2]
    assert blocks.extra == {}
