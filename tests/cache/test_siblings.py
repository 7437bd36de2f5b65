"""The order of a node's children, few or many, against a sorted list."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable

import pytest

from radixcache.cache.node import Node, add_child, remove_child, replace_child
from radixcache.cache.siblings import Siblings, around, nearest
from radixcache.tokens import pack, unpack
from tests.naive import lcp

SIZE = 3  # tokens a block
KEY_BYTES = 4 * SIZE


def leaf(edge: tuple[int, ...]) -> Node:
    return Node(None, pack(edge), b"", 7, 0)


def few_first_tokens(rng: random.Random) -> tuple[int, ...]:
    """Bytes sort otherwise than numbers, and many edges begin alike."""
    return tuple(rng.choice([0, 1, 255, 256, 65_536, 2**24, 2**31 - 1]) for _ in range(SIZE))


def one_first_token(rng: random.Random) -> tuple[int, ...]:
    return (7, rng.randrange(60), rng.randrange(60))


def many_first_tokens(rng: random.Random) -> tuple[int, ...]:
    return (rng.randrange(2**31), rng.randrange(2), 5)


@pytest.mark.parametrize("draw", [few_first_tokens, one_first_token, many_first_tokens])
@pytest.mark.parametrize("most", [3, 12, 1500])
def test_children_come_and_go_as_in_a_sorted_list(
    draw: Callable[[random.Random], tuple[int, ...]], most: int
) -> None:
    rng = random.Random(f"{draw.__name__} {most}")
    parent = Node(None, b"", b"", 0, 0)
    known: dict[bytes, Node] = {}
    was_many = False
    for grows in (True, False, True, False):
        for _ in range(2 * most):
            edge = draw(rng)
            if rng.random() < (0.9 if grows else 0.05):
                node = leaf(edge)
                if node.edge not in known:
                    known[node.edge] = node
                    add_child(parent, node, KEY_BYTES)
            elif known:
                gone = known.pop(rng.choice(list(known)))
                remove_child(parent, gone)
            if known and rng.random() < 0.1:
                old = rng.choice(list(known))
                new = leaf(edge)
                new.edge = old
                replace_child(parent, known[old], new)
                known[old] = new
        keys = sorted(known)
        assert [node.edge for node in parent.children or ()] == keys
        assert all(node is known[node.edge] for node in parent.children or ())
        assert parent.children is None or keys
        was_many = was_many or isinstance(parent.children, Siblings)
        for _ in range(50 if keys else 0):
            key = pack(draw(rng)[: rng.randint(1, SIZE)])
            at = bisect_left(keys, key)
            assert parent.children is not None
            before, after = around(parent.children, key)
            for found, index in ((before, at - 1), (after, at)):
                expected = known[keys[index]] if 0 <= index < len(keys) else None
                alike = expected is not None and expected.edge[:4] == key[:4]
                assert found is expected or (found is None and not alike)
            best, length = nearest(key, before, after)
            assert length == max(lcp_tokens(key, other) for other in keys)
            assert (best is None) == (not length)
            assert best is None or lcp_tokens(key, best.edge) == length
    assert was_many == (most > 8)


def lcp_tokens(a: bytes, b: bytes) -> int:
    return lcp(unpack(a), unpack(b))


def test_nearest_takes_a_tail_for_no_longer_than_it_is() -> None:
    tail, longer = leaf((5,)), leaf((5, 0, 1))
    assert nearest(pack([5, 0, 0]), tail, None) == (tail, 1)
    assert nearest(pack([5, 0, 0]), tail, longer) == (longer, 2)
    assert nearest(pack([5, 0, 0]), longer, tail) == (longer, 2)
    assert nearest(pack([5]), None, longer) == (longer, 1)
    assert nearest(pack([6]), tail, longer) == (None, 0)
