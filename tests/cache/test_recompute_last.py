"""A caller that needs no logits may reuse all of a prompt; anybody else computes its last token."""

from __future__ import annotations

import pytest

from radixcache import PrefixCache
from radixcache.cache.check import check_invariants

PROMPT = list(range(8))


@pytest.fixture
def cache() -> PrefixCache:
    cache = PrefixCache(4, 4)
    with cache.acquire(PROMPT) as lease:
        lease.commit(8)
    return cache


def test_all_of_a_known_prompt_is_reused_and_no_block_taken(cache: PrefixCache) -> None:
    with cache.acquire(PROMPT, recompute_last=False) as lease:
        assert lease.num_cached_tokens == lease.num_computed_tokens == 8
        assert (lease.fresh_blocks, lease.copies, lease.misses) == ([], [], {})
        assert cache.num_free_blocks == 2
        lease.commit(8)
    check_invariants(cache)
    with cache.acquire(PROMPT) as lease:
        assert (lease.num_cached_tokens, lease.misses) == (7, {"last_token": 1})


def test_it_fits_where_a_copy_would_not() -> None:
    cache = PrefixCache(2, 4)
    with cache.acquire(PROMPT) as lease:
        lease.commit(8)
    for recompute_last, cached in ((True, 4), (False, 8)):
        with cache.acquire(PROMPT, recompute_last=recompute_last) as lease:
            assert lease.num_cached_tokens == cached
            lease.commit(8)
        check_invariants(cache)


def test_it_may_be_extended(cache: PrefixCache) -> None:
    with cache.acquire(PROMPT, recompute_last=False) as lease:
        lease.extend([8, 9, 10, 11])
        lease.commit(12)
    assert cache.match([*PROMPT, 8, 9, 10, 11, 12]) == 12
    check_invariants(cache)


def test_a_tail_that_is_not_full_is_reused_to_its_end_too(cache: PrefixCache) -> None:
    with cache.acquire([*PROMPT, 8, 9]) as lease:
        lease.commit(10)
    with cache.acquire([*PROMPT, 8, 9], recompute_last=False) as lease:
        assert lease.num_cached_tokens == 10
        assert len(lease.copies) == 1
    check_invariants(cache)
