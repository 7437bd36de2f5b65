"""The digests that name blocks and prefixes, in every process and on every machine alike.

A block's digest is chained to that of the block before it, and the first block's to its namespace's, so it
stands for all tokens up to the block's end.  xxh3 is not cryptographic: a digest locates a block, and code
that uses what it finds compares namespace and tokens first.
"""

from __future__ import annotations

from array import array
from itertools import pairwise

from xxhash import xxh3_64, xxh3_128_digest

from radixcache.cache.namespaces import Namespace, encode_namespace

Buffer = bytes | bytearray | memoryview


def namespace_digest(namespace: Namespace) -> bytes:
    """The digest (16 bytes) that a namespace's first block is chained to."""
    return xxh3_128_digest(encode_namespace(namespace))


def block_digests(parent: bytes, tokens: Buffer, block_bytes: int) -> list[bytes]:
    """Digests (16 bytes each) of consecutive whole blocks of packed tokens that follow block `parent`."""
    digests = []
    for start in range(0, len(tokens), block_bytes):
        parent = xxh3_128_digest(parent + tokens[start : start + block_bytes])
        digests.append(parent)
    return digests


def short_digests(namespace: Namespace, tokens: Buffer, block_bytes: int) -> array[int]:
    """The first 64 bits of the digests of a sequence's whole blocks, type code `Q`: where memory counts.

    Among 10 million blocks the chance that any two agree by accident is about 3 in a million.
    """
    digest = namespace_digest(namespace)
    heads = bytearray()
    for start in range(0, len(tokens), block_bytes):
        digest = xxh3_128_digest(digest + tokens[start : start + block_bytes])
        heads += digest[:8]
    found = array("Q")
    found.frombytes(heads)
    return found


def prefix_digests(namespace: Namespace, tokens: Buffer, ends: list[int]) -> list[int]:
    """64-bit digests of the prefixes that end at the given bytes, in ascending order.

    For naming few prefixes of a long sequence: one pass of xxh3, whatever the number of its blocks.  These
    are not the digests of the blocks that end there.
    """
    digest = xxh3_64(encode_namespace(namespace))
    view = memoryview(tokens)
    found = []
    for start, end in pairwise([0, *ends]):
        digest.update(view[start:end])
        found.append(digest.intdigest())
    return found
