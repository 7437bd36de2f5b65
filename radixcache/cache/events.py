"""What happened to published blocks, for routers and lower tiers; and the digests that name them.

Only whole blocks are reported: a partial tail is of no use outside the process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import xxhash

from radixcache.cache.namespaces import Namespace, encode_namespace


@dataclass(frozen=True, slots=True)
class BlocksStored:
    """Consecutive blocks were published.

    Attributes:
        namespace: where.
        parent: digest of the block before the first one; the namespace's own digest at position 0.
        digests: one a block, 16 bytes each, in order.
        tokens: the blocks' tokens, packed.
    """

    namespace: Namespace
    parent: bytes
    digests: tuple[bytes, ...]
    tokens: bytes


@dataclass(frozen=True, slots=True)
class BlocksRemoved:
    """Blocks were evicted; `digests` in order of position."""

    namespace: Namespace
    digests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class CacheCleared:
    """The whole cache was reset."""


CacheEvent = BlocksStored | BlocksRemoved | CacheCleared
EventCallback = Callable[[CacheEvent], None]


def namespace_digest(namespace: Namespace) -> bytes:
    """The digest that a namespace's first block chains to."""
    return xxhash.xxh3_128_digest(encode_namespace(namespace))


def block_digests(parent: bytes, tokens: bytes, block_bytes: int) -> list[bytes]:
    """Chained xxh3-128 of consecutive whole blocks: a digest covers everything before it.

    xxhash is not cryptographic: a digest only locates a block, whoever uses one compares
    namespace and tokens first.
    """
    digests = []
    for start in range(0, len(tokens), block_bytes):
        parent = xxhash.xxh3_128_digest(parent + tokens[start : start + block_bytes])
        digests.append(parent)
    return digests
