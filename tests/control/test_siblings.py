"""The sorted order of a node's children."""

from __future__ import annotations

import random
from bisect import bisect_left

import pytest

from radixcache.siblings import SiblingOrder


@pytest.mark.parametrize("size", [0, 1, 2, 700, 3000])
def test_neighbours_equal_those_in_a_sorted_list(size: int) -> None:
    rng = random.Random(size)
    keys = {rng.randbytes(rng.randint(1, 3)) for _ in range(size)}
    order = SiblingOrder(keys)
    for step in range(3000):
        key = rng.randbytes(rng.randint(1, 3))
        if step % 3 == 0 and key not in keys:
            keys.add(key)
            order.add(key)
        elif step % 3 == 1 and keys:
            gone = min(keys) if step % 2 else rng.choice(list(keys))
            keys.remove(gone)
            order.remove(gone)
        if step % 50 == 0:
            expected = sorted(keys)
            assert list(order) == expected
            for query in [key, *expected[:2], b"", b"\xff" * 4]:
                at = bisect_left(expected, query)
                assert order.neighbours(query) == expected[max(at - 1, 0) : at + 1]


def test_growing_and_shrinking_in_order() -> None:
    keys = [number.to_bytes(3, "big") for number in range(5000)]
    order = SiblingOrder([])
    for key in keys:
        order.add(key)
    assert list(order) == keys
    for key in reversed(keys):
        assert order.neighbours(key)[-1] == key
        order.remove(key)
    assert list(order) == []
    assert order.neighbours(b"x") == []
    order.add(b"x")
    assert order.neighbours(b"y") == [b"x"]
