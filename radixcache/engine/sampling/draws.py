"""Random numbers by seed, completion index and position: Philox4x32-10 (Salmon et al. 2011)."""

from __future__ import annotations

import secrets

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
_ROUNDS = 10
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_BLOCK = 64  # positions computed at once: numpy's calls then cost about a microsecond a token


def philox(counter: tuple[Words, Words, Words, Words], key: tuple[Words, Words]) -> tuple[Words, ...]:
    """Four words of 32 random bits for each counter; all arrays hold 32-bit words as uint64."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        first, second = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (second >> _HALF) ^ c1 ^ k0, second & _LOW, (first >> _HALF) ^ c3 ^ k1, first & _LOW
        k0, k1 = (k0 + _KEY_STEPS[0]) & _LOW, (k1 + _KEY_STEPS[1]) & _LOW
    return c0, c1, c2, c3


class Draws:
    """The random numbers of one completion: a function of seed, index and position, without state."""

    def __init__(self, seed: int | None, index: int) -> None:
        """Numbers of completion `index`; a seed counts modulo 2**64, None takes one from the system."""
        self._seed = (secrets.randbits(64) if seed is None else seed) & (2**64 - 1)
        self._index = index
        self._first = -1
        self._block: list[float] = []

    def at(self, position: int) -> float:
        """The number for `position`: 53 random bits, at least 0 and below 1."""
        first = position - position % _BLOCK
        if first != self._first:
            self._block = self._uniform(first).tolist()
            self._first = first
        return self._block[position - first]

    def _uniform(self, first: int) -> NDArray[np.float64]:
        positions = np.arange(first, first + _BLOCK, dtype=np.uint64)
        fixed = np.array([self._index & 0xFFFFFFFF, 0, self._seed & 0xFFFFFFFF, self._seed >> 32], np.uint64)
        index, zero, low, high = fixed[:, None]
        counter = (positions & _LOW, positions >> _HALF, index + zero * positions, zero * positions)
        upper, lower, _, _ = philox(counter, (low, high))
        bits = (upper << np.uint64(21)) | (lower >> np.uint64(11))
        return bits.astype(np.float64) * 2.0**-53
