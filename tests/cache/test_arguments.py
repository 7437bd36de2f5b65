"""Arguments of the wrong type or size are refused by name, and nothing is lost by it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from radixcache.cache.check import check_invariants
from radixcache.cache.eviction import LRU, policies
from radixcache.cache.prefix_cache import PrefixCache
from tests.cache.serving import serve

NO_INTEGERS = (None, "3", 3.0, 1.5, True, np.float64(4), np.True_, float("nan"), float("inf"), [3])


@pytest.mark.parametrize("field", ["num_blocks", "block_size"])
@pytest.mark.parametrize("value", [*NO_INTEGERS, 0, -1, 2**40])
def test_a_size_that_is_no_positive_integer_is_refused(field: str, value: object) -> None:
    sizes: dict[str, Any] = {"num_blocks": 8, "block_size": 4} | {field: value}
    with pytest.raises(ValueError, match=f"{field} must be"):
        PrefixCache(**sizes)


@pytest.mark.parametrize(
    ("field", "value"),
    [("enabled", "no"), ("enabled", 1), ("explain", None), ("on_event", 5), ("clock", 5), ("policy", [])],
)
def test_a_setting_of_the_wrong_type_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        PrefixCache(8, 4, **{field: value})  # type: ignore[arg-type]


def test_integers_of_numpy_are_integers() -> None:
    cache = PrefixCache(np.int64(8), np.int32(4))  # type: ignore[arg-type]
    with cache.acquire([1, 2, 3, 4, 5], max_cached=np.int64(3)) as lease:  # type: ignore[arg-type]
        lease.commit(np.int64(3))  # type: ignore[arg-type]
        lease.commit(np.int64(5))  # type: ignore[arg-type]
        assert type(lease.num_computed_tokens) is int
    assert type(cache.num_blocks) is type(cache.block_size) is int
    check_invariants(cache)


@pytest.mark.parametrize("value", [*NO_INTEGERS, -1, 7])
def test_a_bad_commit_is_refused_and_the_lease_goes_on(value: object) -> None:
    cache = PrefixCache(8, 4)
    with cache.acquire([1, 2, 3, 4, 5, 6]) as lease:
        for computed in (0, 2, 6):
            lease.commit(computed)
            with pytest.raises(ValueError, match=r"commit|num_tokens"):
                lease.commit(value)  # type: ignore[arg-type]
            assert lease.num_computed_tokens == computed
    check_invariants(cache)
    assert cache.num_protected_blocks == 0
    assert cache.match([1, 2, 3, 4, 5, 6, 7]) == 6


@pytest.mark.parametrize("value", [*NO_INTEGERS, -1])
def test_numbers_of_blocks_and_tokens_are_integers(value: object) -> None:
    cache = PrefixCache(8, 4)
    serve(cache, range(8))
    with pytest.raises(ValueError, match="num_blocks must be"):
        cache.evict(value)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_tokens must be"):
        cache.fits(value)  # type: ignore[arg-type]
    if value is not None:
        with pytest.raises(ValueError, match="max_cached must be"):
            cache.acquire([1, 2], max_cached=value)  # type: ignore[arg-type]
    assert cache.num_evictable_blocks == 2
    check_invariants(cache)


@pytest.mark.parametrize("policy", sorted(policies))
@pytest.mark.parametrize("namespace", [None, 5, ("a",), ["a"], {}, True])
def test_a_namespace_is_text_or_bytes(namespace: Any, policy: str) -> None:
    cache = PrefixCache(8, 4, policy=policy)
    for call in (cache.acquire, cache.match, cache.pin):
        with pytest.raises(ValueError, match="namespace must be a str or bytes"):
            call([1, 2, 3, 4, 5], namespace)
    assert not cache.store.tree.roots
    check_invariants(cache)


@pytest.mark.parametrize("policy", sorted(policies))
@pytest.mark.parametrize("namespace", ["\ud800", "", b"\xff", "a\0b"])
def test_any_text_is_a_namespace_under_every_policy(namespace: str | bytes, policy: str) -> None:
    cache = PrefixCache(8, 4, policy=policy, on_event=lambda event: None)
    serve(cache, range(8), (), namespace)
    serve(cache, range(100, 120), (), namespace)
    assert cache.match([*range(100, 120), 1], namespace) > 0
    check_invariants(cache)


@pytest.mark.parametrize("policy", sorted(policies))
def test_a_policy_object_serves_one_cache(policy: str) -> None:
    chosen = policies[policy]()
    PrefixCache(4, 1, policy=chosen)
    with pytest.raises(ValueError, match="policy must be used by one cache"):
        PrefixCache(4, 1, policy=chosen)


def test_a_policy_object_is_not_used_up_by_a_cache_that_could_not_be_made() -> None:
    chosen = LRU()
    with pytest.raises(ValueError, match="block_size"):
        PrefixCache(4, 0, policy=chosen)
    PrefixCache(4, 1, policy=chosen)


def test_reuse_stops_where_it_is_told_to_and_says_why() -> None:
    cache = PrefixCache(16, 4)
    serve(cache, range(12))
    for limit, cached in ((0, 0), (3, 3), (4, 4), (9, 9), (11, 11), (50, 11)):
        with cache.acquire(range(12), max_cached=limit) as lease:
            assert lease.num_cached_tokens == cached
            reason = "last_token" if cached == 11 and limit > 11 else "cache_off"
            assert lease.misses == {reason: 12 - cached}
        check_invariants(cache)
    with cache.acquire([*range(6), 90, 91, 92], max_cached=8) as lease:  # less is there than may be read
        assert lease.num_cached_tokens == 6
        assert "cache_off" not in lease.misses


def test_a_fork_does_not_read_what_is_still_to_be_copied() -> None:
    cache = PrefixCache(8, 4)
    serve(cache, range(9))
    with cache.acquire(range(6), recompute_last=False) as lease:
        (copy,) = lease.copies
        with lease.fork() as twin, twin.fork() as third:
            for fork in (twin, third):
                assert [(c.source, c.num_tokens) for c in fork.copies] == [(copy.source, copy.num_tokens)]
                assert fork.copies[0].target == fork.block_table[-1] != copy.target
            check_invariants(cache)
            twin.extend([77])
            assert len(twin.copies) == 1  # its tail is its own
        check_invariants(cache)
    assert cache.num_protected_blocks == 0
