"""The free list and the references to blocks."""

from __future__ import annotations

import pytest

from radixcache.blocks import BlockAllocator


def test_every_block_is_handed_out_once() -> None:
    blocks = BlockAllocator(10)
    taken = blocks.take(3) + blocks.take(0) + blocks.take(1) + blocks.take(6)
    assert sorted(taken) == list(range(10))
    assert blocks.num_free == 0


def test_freed_blocks_come_first() -> None:
    blocks = BlockAllocator(10)
    first = blocks.take(4)
    blocks.drop(first[1:3])
    assert blocks.num_free == 8
    assert sorted(blocks.take(3)) == sorted([*first[1:3], 4])
    assert blocks.num_free == 5


def test_taking_too_many_changes_nothing() -> None:
    blocks = BlockAllocator(4)
    kept = blocks.take(2)
    with pytest.raises(AssertionError, match="3 blocks taken of 2 free"):
        blocks.take(3)
    assert sorted(kept + blocks.free_ids()) == [0, 1, 2, 3]


def test_a_shared_block_is_free_when_its_last_reference_is_dropped() -> None:
    blocks = BlockAllocator(3)
    shared, alone = blocks.take(2)
    blocks.share(shared)
    blocks.share(shared)
    blocks.drop([shared, alone])
    assert sorted(blocks.free_ids()) == sorted([alone, 2])
    blocks.drop([shared])
    assert blocks.num_free == 2
    blocks.drop([shared])
    assert sorted(blocks.free_ids()) == [0, 1, 2]
    assert blocks.extra == {}


def test_clear_takes_everything_back() -> None:
    blocks = BlockAllocator(3)
    blocks.share(blocks.take(2)[0])
    blocks.clear()
    assert blocks.free_ids() == [0, 1, 2]
    assert blocks.extra == {}
