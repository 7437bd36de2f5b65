"""Counters and gauges."""

from __future__ import annotations

import subprocess
import sys

import pytest

from radixcache.cache.prefix_cache import PrefixCache
from tests.cache.serving import computed, serve


def test_counters_of_requests_and_tokens() -> None:
    cache = PrefixCache(64, 4)
    serve(cache, range(10))
    serve(cache, range(10))
    serve(cache, [*range(6), 50])
    stats = cache.stats()
    assert (stats.requests, stats.prompt_tokens, stats.cached_tokens) == (3, 27, 15)
    assert stats.missed_tokens == {"never_seen": 10, "last_token": 1, "diverged": 1}
    assert stats.hit_rate == pytest.approx(15 / 27)
    assert stats.copied_tokens == 1 + 2
    assert stats.prompt_tokens == stats.cached_tokens + sum(stats.missed_tokens.values())


def test_an_unused_cache_has_a_hit_rate_and_no_waste() -> None:
    stats = PrefixCache(4).stats()
    assert stats.hit_rate == 0.0
    assert stats.block_waste == 0.0
    assert stats.missed_tokens == {}


def test_counters_of_blocks() -> None:
    cache = PrefixCache(64, 4)
    serve(cache, range(10))
    one, two = cache.acquire(range(100, 108)), cache.acquire(range(100, 108))
    one.commit(8)
    two.commit(8)
    cache.evict(2)
    stats = cache.stats()
    assert stats.published_blocks == 5
    assert stats.duplicate_blocks == 2
    assert stats.evicted_blocks == 2
    assert (stats.num_blocks, stats.free_blocks, stats.evictable_blocks, stats.protected_blocks) == (
        64,
        61,
        1,
        2,
    )
    assert stats.cached_tokens_resident == 12
    assert stats.leases == 2


def test_block_waste_counts_what_blocks_hold() -> None:
    cache = PrefixCache(64, 4)
    lease = computed(cache, range(9))
    assert cache.stats().block_waste == pytest.approx(1 - 9 / 12)
    lease.extend([1, 2, 3])
    assert cache.stats().block_waste == 0.0
    lease.extend([1])
    assert cache.stats().block_waste == pytest.approx(1 - 13 / 16)
    lease.commit(13)
    twin = lease.fork()  # a shared block holds its tokens once
    assert cache.stats().block_waste == pytest.approx(1 - 13 / 16)
    lease.release()
    assert cache.stats().block_waste == pytest.approx(1 - 13 / 16)
    twin.extend([5])
    assert cache.stats().block_waste == pytest.approx(1 - (13 + 2) / 20)
    twin.release()


def test_counters_survive_a_reset() -> None:
    cache = PrefixCache(64, 4)
    serve(cache, range(10))
    cache.reset()
    stats = cache.stats()
    assert stats.requests == 1
    assert stats.cached_tokens_resident == 0
    assert stats.free_blocks == 64


def test_the_control_plane_imports_no_torch() -> None:
    code = (
        "import sys, radixcache.cache.prefix_cache, radixcache.cache.check, radixcache.cache.eviction\n"
        "assert not {'torch', 'transformers', 'triton'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
