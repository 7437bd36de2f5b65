"""A small sample of the blocks that requests touch, the same ones every time they come."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from radixcache.cache.digest import prefix_digests
from radixcache.cache.eviction.base import Buffer
from radixcache.cache.namespaces import Namespace
from radixcache.tokens import TOKEN_BYTES

_PER_REQUEST = 16  # sampled blocks of an average request, at most this and mostly more than half of it,
_SMALLEST = 128  # but so many of those that fill the cache
_MIX = tuple(np.uint32(odd) for odd in (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F, 0x165667B1))


class Sampled(NamedTuple):
    """A sampled block of a request: digest of everything up to its end, index among the prompt's blocks."""

    digest: int
    place: int


class Sampler:
    """Picks blocks by their content and place, always the same ones, so that their reuse is seen in full.

    After C. Waldspurger, N. Park, A. Garthwaite and I. Ahmad, "Efficient MRC Construction with SHARDS",
    FAST '15: a cache of `rate` times the blocks, given the sampled references alone, has the hit rate of the
    whole.  The rate is a power of two and only ever falls, as requests turn out to be long: what is sampled
    later was sampled before.

    A request costs one pass of numpy over three tokens a block and one of xxh3 over its tokens.

    Args:
        num_blocks: blocks in the cache.
        block_size: tokens a block.
        limit: sampled blocks that fill the cache, at most.
    """

    def __init__(self, num_blocks: int, block_size: int, limit: int) -> None:
        self._block_size = block_size
        self._num_blocks = num_blocks
        self._mean = 0.0
        self._requests = 0
        self.shift = 0  # the rate is 2 to the power of minus this
        while self.capacity > limit:
            self.shift += 1

    @property
    def capacity(self) -> int:
        """Sampled blocks that fill the cache, at the present rate; at least 1."""
        return max(1, self._num_blocks >> self.shift)

    def sample(self, tokens: Buffer, num_tokens: int, namespace: Namespace) -> list[Sampled]:
        """The sampled whole blocks of the first `num_tokens` tokens of a request, head first."""
        count = num_tokens // self._block_size
        if not count:
            return []
        self._adapt(count)
        width = self._block_size * TOKEN_BYTES
        places = self._places(tokens, count)
        digests = prefix_digests(namespace, tokens, [(place + 1) * width for place in places])
        return list(map(Sampled, digests, places))

    def _places(self, tokens: Buffer, count: int) -> list[int]:
        if not self.shift:
            return list(range(count))
        size = self._block_size
        blocks = np.frombuffer(tokens, dtype=np.uint32, count=count * size).reshape(count, size)
        mixed = np.arange(count, dtype=np.uint32) * _MIX[0]
        for column, odd in zip((0, size // 2, size - 1) if size > 1 else (0,), _MIX[1:], strict=False):
            mixed ^= blocks[:, column] * odd
            mixed ^= mixed >> np.uint32(15)
            mixed *= _MIX[4]
        mixed ^= mixed >> np.uint32(16)
        return list(np.flatnonzero(mixed < np.uint32(1 << (32 - self.shift))).tolist())

    def _adapt(self, count: int) -> None:
        self._requests += 1
        # from nought, so that one long request at the beginning does not thin the sample for good
        self._mean += (count - self._mean) / min(self._requests + 8, 256)
        while self._mean > _PER_REQUEST << self.shift and self.capacity >= 2 * _SMALLEST:
            self.shift += 1
