"""Short forms of what an engine does with the cache."""

from __future__ import annotations

from collections.abc import Sequence

from radixcache.cache.lease import Lease
from radixcache.cache.prefix_cache import PrefixCache


def serve(
    cache: PrefixCache, tokens: Sequence[int], answer: Sequence[int] = (), namespace: str | bytes = ""
) -> int:
    """Acquire, compute, decode one token at a time, release; returns the tokens reused."""
    with cache.acquire(tokens, namespace) as lease:
        lease.commit(lease.num_tokens)
        for token in answer:
            lease.extend([token])
            lease.commit(lease.num_tokens)
        return lease.num_cached_tokens


def computed(cache: PrefixCache, tokens: Sequence[int], namespace: str | bytes = "") -> Lease:
    """A live lease with its whole prompt computed."""
    lease = cache.acquire(tokens, namespace)
    lease.commit(lease.num_tokens)
    return lease


def gauges(cache: PrefixCache) -> tuple[int, int, int]:
    """Free, evictable and protected blocks."""
    return cache.num_free_blocks, cache.num_evictable_blocks, cache.num_protected_blocks
