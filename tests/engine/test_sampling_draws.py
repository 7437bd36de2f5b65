"""Random numbers: Philox as published, a function of seed, index and position."""

from __future__ import annotations

import math

import numpy as np
import pytest

from radixcache.engine.sampling.draws import Draws, philox

ONES = 0xFFFFFFFF

# The vectors that the authors of Philox publish for philox4x32-10.
PUBLISHED = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES, ONES, ONES, ONES), (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def test_philox_gives_the_published_words() -> None:
    c0, c1, c2, c3 = (np.array([case[0][word] for case in PUBLISHED], np.uint64) for word in range(4))
    k0, k1 = (np.array([case[1][word] for case in PUBLISHED], np.uint64) for word in range(2))
    words = philox((c0, c1, c2, c3), (k0, k1))
    assert np.stack(words, -1).tolist() == [list(case[2]) for case in PUBLISHED]


def test_a_number_depends_on_seed_index_and_position_alone() -> None:
    forwards, backwards = Draws(7, 3), Draws(7, 3)
    wanted = [forwards.at(position) for position in range(200)]
    assert [backwards.at(position) for position in reversed(range(200))] == wanted[::-1]
    assert forwards.at(2**40 + 5) == backwards.at(2**40 + 5)


def test_numbers_of_other_seeds_indices_and_positions_differ() -> None:
    cases = [
        (seed, index, at) for seed in (0, 1, -1, 2**32, 10**30) for index in (0, 1, 9) for at in range(9)
    ]
    cases += [(0, 0, 2**32), (0, 1, 2**32)]
    assert len({Draws(seed, index).at(at) for seed, index, at in cases}) == len(cases)


@pytest.mark.parametrize("seed", [-1, 5, -(2**70)])
def test_a_seed_counts_modulo_two_to_the_64(seed: int) -> None:
    assert Draws(seed, 0).at(3) == Draws(seed + 2**64, 0).at(3)


def test_without_a_seed_numbers_are_new_each_time() -> None:
    assert Draws(None, 0).at(0) != Draws(None, 0).at(0)


def test_numbers_are_even_and_independent() -> None:
    streams = [Draws(seed, index) for seed in range(8) for index in range(8)]
    numbers = np.array([[stream.at(position) for position in range(256)] for stream in streams])
    assert 0 <= numbers.min() < numbers.max() < 1
    for groups in (numbers, numbers.T):  # along positions, and along seeds and indices at one position
        later = (groups[:, 1:] * 8).astype(int)
        cells = np.bincount(((groups[:, :-1] * 8).astype(int) * 8 + later).ravel(), minlength=64)
        expected = cells.sum() / 64
        statistic = float(((cells - expected) ** 2 / expected).sum())
        assert statistic < 63 + 6 * math.sqrt(2 * 63)
