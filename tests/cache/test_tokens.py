"""Packing token ids and comparing packed sequences."""

from __future__ import annotations

import random
from array import array
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from radixcache.errors import TokenError
from radixcache.tokens import PackedTokens, common_prefix, pack, unpack
from tests.naive import lcp


class Tensor:
    """What `pack` needs of a torch tensor."""

    def __init__(self, ids: Any) -> None:
        self.ids = ids

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> Any:
        return self.ids


@given(st.lists(st.integers(0, 2**31 - 1)))
def test_unpack_inverts_pack(ids: list[int]) -> None:
    assert unpack(pack(ids)) == ids
    assert len(pack(ids)) == 4 * len(ids)


@pytest.mark.parametrize(
    "tokens",
    [
        [1, 2, 300_000],
        (1, 2, 300_000),
        array("q", [1, 2, 300_000]),
        array("i", [1, 2, 300_000]),
        np.array([1, 2, 300_000]),
        np.array([1, 2, 300_000], np.uint32),
        np.array([1, 0, 2, 0, 300_000])[::2],
        [np.int64(1), np.int32(2), 300_000],
        iter([1, 2, 300_000]),
        Tensor(np.array([1, 2, 300_000])),
        memoryview(array("i", [1, 2, 300_000])),
        b"\x01\0\0\0\x02\0\0\0\xe0\x93\x04\0",
        bytearray(b"\x01\0\0\0\x02\0\0\0\xe0\x93\x04\0"),
        memoryview(b"\x01\0\0\0\x02\0\0\0\xe0\x93\x04\0"),
        torch.tensor([1, 2, 300_000]),
        (token for token in [1, 2, 300_000]),
    ],
    ids=lambda tokens: type(tokens).__name__,
)
def test_every_kind_of_sequence_packs_the_same(tokens: Any) -> None:
    assert pack(tokens) == b"\x01\0\0\0\x02\0\0\0\xe0\x93\x04\0"


def test_ranges_and_empty_sequences_pack() -> None:
    assert unpack(pack(range(5))) == [0, 1, 2, 3, 4]
    empties: list[Any] = [[], (), np.array([]), b"", array("i")]
    for empty in empties:
        assert pack(empty) == b""


def test_packing_twice_costs_nothing() -> None:
    packed = pack([1, 2, 3])
    assert isinstance(packed, PackedTokens)
    assert pack(packed) is packed


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([1, 2, -3], "token 2 is out of range: -3"),
        ([1, 2**31], "token 1 is out of range: 2147483648"),
        ([1, 2**70], "token 1 is out of range"),
        ([5, True], "token 1 is not an integer: True"),
        ([5, False, 1], "token 1 is not an integer: False"),
        ([5, 1.0], "token 1 is not an integer: 1.0"),
        ([5, "a"], "token 1 is not an integer: 'a'"),
        ([5, None], "token 1 is not an integer: None"),
        (np.array([1, -1]), "token 1 is out of range: -1"),
        (np.array([1, 2**31]), "token 1 is out of range: 2147483648"),
        (np.array([1, -1], np.int8), "token 1 is out of range: -1"),
        (np.array([1.0]), "integers, got dtype float64"),
        (np.array([True]), "integers, got dtype bool"),
        (np.array([[1]]), "one-dimensional"),
        (array("q", [7, -7]), "token 1 is out of range: -7"),
        (b"\0\0\0\x80", "token 0 is out of range: -2147483648"),
        (b"\0\0\0", "4 bytes each, got 3 bytes"),
        ("text", "tokenize it first"),
        (7, "got int"),
        ({1, 2}, "got set"),
        ({1: 2}, "got dict"),
        (torch.tensor([1.0], dtype=torch.bfloat16), "integers, got dtype torch.bfloat16"),
        ([5, torch.tensor(1.5)], "token 1 is not an integer"),
        ([5, torch.tensor([5, 6])], "token 1 is not an integer"),
    ],
)
def test_bad_tokens_are_refused_with_position_and_value(tokens: Any, message: str) -> None:
    with pytest.raises(TokenError, match=message.replace("(", r"\(")):
        pack(tokens)


@given(st.lists(st.integers(0, 2), max_size=300), st.lists(st.integers(0, 2), max_size=300), st.data())
def test_common_prefix_of_random_sequences(a: list[int], b: list[int], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(a)))
    b = data.draw(st.sampled_from([b, a[start:], a[start:] + b]))
    limit = data.draw(st.none() | st.integers(0, 300))
    expected = lcp(a[start:], b)
    if limit is not None:
        expected = min(expected, limit)
    assert common_prefix(pack(a), pack([9, *b]), 4 * start, 4, limit) == expected


@pytest.mark.parametrize("length", [1, 63, 64, 65, 1000, 9000, 70_000])
def test_common_prefix_finds_any_first_mismatch(length: int) -> None:
    rng = random.Random(length)
    ids = np.array([rng.randrange(2**31) for _ in range(length)])
    packed = pack(ids)
    assert common_prefix(packed, packed) == length
    for position in {0, length // 3, length // 2, length - 1}:
        for flip in (1, 1 << 30):  # the lowest and the highest byte differ
            other = ids.copy()
            other[position] ^= flip
            assert common_prefix(packed, pack(other)) == position
            assert common_prefix(bytearray(packed), pack(other)) == position
