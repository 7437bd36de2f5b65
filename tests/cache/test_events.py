"""Events: what was stored, removed and cleared."""

from __future__ import annotations

import random

import pytest

import radixcache.cache.tree
from radixcache.cache.blocks import block_ids
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


def test_events_are_numbered_without_gaps_in_growing_epochs(
    cache: PrefixCache, seen: list[CacheEvent]
) -> None:
    rng = random.Random(6)
    epochs = []
    for _ in range(200):
        serve(cache, rng.choices([0, 1], k=rng.randint(1, 30)), namespace=rng.choice(["", "x"]))
        if rng.random() < 0.05:
            cache.reset()
    for event in seen:
        if not epochs or event.epoch != epochs[-1]:
            assert event.sequence == 0
            assert isinstance(event, CacheCleared) == bool(epochs)
            epochs.append(event.epoch)
            expected = 0
        assert event.sequence == expected
        expected += 1
    assert len(epochs) > 3
    assert epochs == sorted(set(epochs))
    assert PrefixCache(4, on_event=seen.append).snapshot().epoch > epochs[0]


def test_a_listener_that_failed_finds_a_gap() -> None:
    heard: list[CacheEvent] = []

    def listen(event: CacheEvent) -> None:
        if isinstance(event, BlocksRemoved):
            raise RuntimeError("listener")
        heard.append(event)

    cache = PrefixCache(4, 4, on_event=listen)
    serve(cache, range(16))
    with pytest.raises(RuntimeError, match="listener"):
        serve(cache, range(100, 116))
    serve(cache, range(200, 204))
    assert [event.sequence for event in heard] == [0, 2]
    assert cache.snapshot().next_sequence == 3


def test_a_snapshot_has_every_whole_block_parents_first(cache: PrefixCache) -> None:
    rng = random.Random(3)
    for _ in range(40):
        serve(cache, rng.choices([0, 0, 1], k=rng.randint(1, 30)), namespace=rng.choice(["", "x"]))
    snapshot = cache.snapshot()
    known = {namespace_digest("x"), namespace_digest("")}
    for event in snapshot.stored:
        assert event.parent in known
        assert event.digests == tuple(block_digests(event.parent, event.tokens, 16))
        assert (event.epoch, event.sequence) == (snapshot.epoch, snapshot.next_sequence - 1)
        known.update(event.digests)
    blocks = {block for event in snapshot.stored for block in block_ids(event.blocks)}
    whole = [node for _, _, node in nodes(cache) if node.digests is not None]
    assert known >= {digest for node in whole for digest in node.digests or ()}
    assert blocks == {block for node in whole for block in block_ids(node.blocks)}
    assert snapshot.block_size == 4


def test_a_snapshot_needs_numbered_events() -> None:
    with pytest.raises(ValueError, match="snapshot needs a cache with on_event"):
        PrefixCache(4).snapshot()


def test_an_event_has_what_other_engines_put_on_the_wire(cache: PrefixCache, seen: list[CacheEvent]) -> None:
    serve(cache, range(8), namespace="adapter")
    serve(cache, range(12), namespace="adapter")
    wire = [
        {
            "type": "BlockStored",
            "block_hashes": [int.from_bytes(digest[:8], "big") for digest in event.digests],
            "parent_block_hash": None if event.at_root else int.from_bytes(event.parent[:8], "big"),
            "token_ids": event.token_ids,
            "block_size": event.block_size,
            "lora_name": event.namespace or None,
        }
        for event in seen
        if isinstance(event, BlocksStored)
    ]
    first, second = wire
    assert first["parent_block_hash"] is None
    assert second["parent_block_hash"] == first["block_hashes"][-1]  # type: ignore[index]
    assert (first["token_ids"], second["token_ids"]) == ([*range(8)], [*range(8, 12)])
    assert first["block_size"] == second["block_size"] == 4
