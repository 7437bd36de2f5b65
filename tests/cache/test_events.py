"""Events: what was stored, removed and cleared."""

from __future__ import annotations

import random

import pytest

import radixcache.cache.tree
from radixcache.cache.check import check_invariants, nodes
from radixcache.cache.digest import block_digests, namespace_digest
from radixcache.cache.events import BlocksRemoved, BlocksStored, CacheCleared, CacheEvent
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.errors import CacheInUseError
from radixcache.tokens import pack
from tests.cache.serving import computed, serve


@pytest.fixture
def seen() -> list[CacheEvent]:
    return []


@pytest.fixture
def cache(seen: list[CacheEvent]) -> PrefixCache:
    return PrefixCache(16, 4, on_event=seen.append)


def test_stored_names_its_parent(cache: PrefixCache, seen: list[CacheEvent]) -> None:
    serve(cache, range(10), namespace="n")
    root = namespace_digest("n")
    digests = block_digests(root, pack(range(8)), 16)
    assert seen == [BlocksStored("n", root, tuple(digests), pack(range(8)))]
    serve(cache, range(12), namespace="n")
    (third,) = block_digests(digests[1], pack(range(8, 12)), 16)
    assert seen[1:] == [BlocksStored("n", digests[1], (third,), pack(range(8, 12)))]


def test_stored_is_reported_when_a_block_is_full(cache: PrefixCache, seen: list[CacheEvent]) -> None:
    lease = cache.acquire(range(3))
    lease.commit(3)
    assert seen == []
    lease.extend([3])
    lease.commit(4)
    assert len(seen) == 1
    lease.release()


def test_a_branch_names_the_block_where_it_starts(cache: PrefixCache, seen: list[CacheEvent]) -> None:
    serve(cache, range(12))
    serve(cache, [*range(4), 50, 51, 52, 53])
    first, second = seen
    assert isinstance(first, BlocksStored)
    assert isinstance(second, BlocksStored)
    assert second.parent == first.digests[0]


def test_duplicates_are_stored_once(cache: PrefixCache, seen: list[CacheEvent]) -> None:
    one, two = cache.acquire(range(8)), cache.acquire(range(8))
    one.commit(8)
    two.commit(8)
    assert len(seen) == 1


def test_removed_on_eviction(cache: PrefixCache, seen: list[CacheEvent]) -> None:
    serve(cache, range(14))
    stored = seen.pop()
    assert isinstance(stored, BlocksStored)
    cache.evict(2)  # the partial tail, of which nobody was told, and one block
    assert seen == [BlocksRemoved("", stored.digests[2:])]
    cache.evict(2)
    assert seen[1:] == [BlocksRemoved("", stored.digests[:2])]


def test_removed_when_a_request_needs_the_room(cache: PrefixCache, seen: list[CacheEvent]) -> None:
    serve(cache, range(32))
    seen.clear()
    with cache.acquire(range(100, 140)):
        (event,) = seen
        assert isinstance(event, BlocksRemoved)
        assert len(event.digests) == 2


def test_cleared_on_reset(cache: PrefixCache, seen: list[CacheEvent]) -> None:
    lease = computed(cache, range(8))
    seen.clear()
    with pytest.raises(CacheInUseError):
        cache.reset()
    assert seen == []
    lease.release()
    cache.reset()
    assert seen == [CacheCleared()]


def test_none_when_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def computing(*_: object) -> None:
        raise AssertionError("a digest was computed")

    monkeypatch.setattr(radixcache.cache.tree, "block_digests", computing)
    monkeypatch.setattr(radixcache.cache.tree, "namespace_digest", computing)
    cache = PrefixCache(16, 4)
    serve(cache, range(30), range(4))
    serve(cache, range(10, 60))
    cache.evict(3)
    assert all(node.digests is None for _, _, node in nodes(cache))
    cache.reset()
    assert cache.store.events is None


def test_a_mirror_kept_from_events_equals_the_cache(seen: list[CacheEvent]) -> None:
    rng = random.Random(2)
    cache = PrefixCache(40, 4, on_event=seen.append)
    mirror: set[bytes] = set()
    for _ in range(300):
        prompt = rng.choices([0, 0, 0, 1], k=rng.randint(1, 40))
        serve(cache, prompt, namespace=rng.choice(["", "x"]))
        for event in seen:
            if isinstance(event, BlocksStored):
                assert event.parent in mirror | {namespace_digest("x"), namespace_digest("")}
                assert not mirror & set(event.digests)
                mirror.update(event.digests)
            elif isinstance(event, BlocksRemoved):
                assert mirror >= set(event.digests)
                mirror.difference_update(event.digests)
        seen.clear()
        assert mirror == {digest for _, _, node in nodes(cache) for digest in node.digests or ()}
    check_invariants(cache)


def test_a_callback_that_fails_leaves_the_cache_sound() -> None:
    def fail(event: CacheEvent) -> None:
        raise RuntimeError("listener")

    cache = PrefixCache(16, 4, on_event=fail)
    lease = cache.acquire(range(8))
    with pytest.raises(RuntimeError, match="listener"):
        lease.commit(8)
    check_invariants(cache)
    lease.release()
    check_invariants(cache)
    assert cache.match([*range(8), 1]) == 8
    with pytest.raises(RuntimeError, match="listener"):
        cache.acquire(range(100, 164))  # evicts, and nobody gets the lease
    assert not cache.store.live
    assert cache.num_free_blocks == 16
    check_invariants(cache)
