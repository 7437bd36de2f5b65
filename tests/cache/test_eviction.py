"""Who leaves first, and what eviction leaves alone."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from radixcache.cache.check import check_invariants, nodes
from radixcache.cache.eviction import LRU, EvictionPolicy, HeapPolicy, Retention, policies
from radixcache.cache.node import Node
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.errors import OutOfBlocksError
from tests.cache.model import snapshot
from tests.cache.serving import computed, serve


def prompt(start: int, blocks: int = 2) -> list[int]:
    return list(range(100 * start, 100 * start + 4 * blocks))


def test_eviction_skips_locked() -> None:
    cache = PrefixCache(8, 4)
    lease = computed(cache, prompt(1))
    serve(cache, prompt(2))
    assert cache.evict(100) == 2
    assert cache.match([*prompt(1), 0]) == 8
    lease.release()


def test_least_recently_used_leaves_first() -> None:
    cache = PrefixCache(6, 4)
    for start in (1, 2, 3):
        serve(cache, prompt(start))
    serve(cache, [*prompt(1), 5])  # used again, in one more block, for which 2's tail leaves
    assert [cache.match([*prompt(start), 0]) for start in (1, 2, 3)] == [8, 4, 8]
    cache.evict(1)
    assert [cache.match([*prompt(start), 0]) for start in (1, 2, 3)] == [8, 0, 8]
    cache.evict(2)
    assert [cache.match([*prompt(start), 0]) for start in (1, 2, 3)] == [8, 0, 0]


def test_computing_a_tail_again_counts_as_its_use() -> None:
    cache = PrefixCache(16, 4)
    for start in (1, 2, 1):
        serve(cache, [*prompt(start), 5])
    cache.evict(1)
    assert [cache.match([*prompt(start), 5, 0]) for start in (1, 2)] == [9, 8]


def test_lru_is_exact_against_a_naive_order() -> None:
    """Random use of a two-level tree; a node was last used when anything at or below it was."""
    rng = random.Random(3)
    cache = PrefixCache(10_000, 1)
    used: dict[tuple[int, ...], int] = {}
    for now in range(300):
        path = (rng.randrange(6), 10 + rng.randrange(6), 20 + rng.randrange(6))[: rng.randint(1, 3)]
        serve(cache, path)
        for stop in range(1, len(path) + 1):
            used[path[:stop]] = now
    while used:
        leaves = [p for p in used if not any(q[: len(p)] == p and q != p for q in used)]
        oldest = min(leaves, key=lambda p: used[p])
        assert cache.match([*oldest, 99]) == len(oldest)
        assert cache.evict(1) == 1
        assert cache.match([*oldest, 99]) == len(oldest) - 1
        del used[oldest]
    assert cache.num_free_blocks == 10_000


def test_children_leave_before_parents_and_then_the_parent_is_a_candidate() -> None:
    cache = PrefixCache(16, 4)
    serve(cache, [*prompt(1), 5, 5, 5, 5])
    serve(cache, [*prompt(1), 6, 6, 6, 6])
    assert cache.evict(2) == 2
    assert cache.match([*prompt(1), 5]) == 8
    assert cache.evict(10) == 2
    assert cache.num_free_blocks == 16
    assert cache.store.tree.roots == {}


def test_the_tail_of_an_edge_leaves_first() -> None:
    cache = PrefixCache(16, 4)
    serve(cache, prompt(1, 5))
    for left in (4, 3, 2, 1, 0):
        assert cache.evict(1) == 1
        assert cache.match([*prompt(1, 5), 0]) == 4 * left
        check_invariants(cache)


def test_uncached_blocks_are_reused_before_cached_ones() -> None:
    cache = PrefixCache(8, 4)
    serve(cache, prompt(1))
    lease = cache.acquire(prompt(2, 6))
    lease.release()  # nothing of it was computed
    serve(cache, prompt(3, 6))
    assert cache.match([*prompt(1), 0]) == 8
    assert cache.stats().evicted_blocks == 0


def test_a_requests_own_allocation_never_evicts_its_own_hits() -> None:
    cache = PrefixCache(6, 4)
    serve(cache, prompt(1, 3))
    serve(cache, prompt(2, 3))
    with cache.acquire([*prompt(1, 3), *range(12)]) as lease:  # the oldest is what it hits
        assert lease.num_cached_tokens == 12
        assert cache.match([*prompt(2, 3), 0]) == 0
        check_invariants(cache)


def test_an_allocation_that_cannot_fit_fails_without_mutation() -> None:
    cache = PrefixCache(6, 4)
    serve(cache, prompt(1, 3))
    lease = computed(cache, prompt(2, 2))
    before = snapshot(cache)
    with pytest.raises(OutOfBlocksError) as caught:
        cache.acquire([*prompt(1, 1), *range(16)])
    assert (caught.value.needed, caught.value.available) == (4, 3)
    assert "4 KV blocks needed, 3 free or evictable" in str(caught.value)
    assert snapshot(cache) == before
    with pytest.raises(OutOfBlocksError):
        cache.acquire(range(28), "a new namespace")
    assert snapshot(cache) == before
    lease.release()


def test_eviction_frees_what_was_asked() -> None:
    cache = PrefixCache(100, 4)
    for start in range(1, 8):
        serve(cache, prompt(start, start))
    total = sum(range(1, 8))
    freed = 0
    for asked in (0, 1, 3, 7, 2):
        assert cache.evict(asked) == asked
        freed += asked
        assert cache.num_free_blocks == 100 - total + freed
    assert cache.evict(1000) == total - freed
    with pytest.raises(ValueError, match="at least 0"):
        cache.evict(-1)


def test_evicted_prefixes_miss() -> None:
    cache = PrefixCache(16, 4)
    serve(cache, prompt(1))
    cache.evict(2)
    with cache.acquire(prompt(1)) as lease:
        assert lease.num_cached_tokens == 0
        assert lease.misses == {"evicted": 8}


def test_a_source_being_copied_is_not_evicted() -> None:
    cache = PrefixCache(5, 4)
    serve(cache, prompt(1, 3))
    lease = cache.acquire([*prompt(1, 3)[:6], 77, 78])
    assert cache.evict(100) == 1  # the third block; the second is the source
    lease.finish_copies()
    assert cache.evict(100) == 1
    lease.release()


def test_a_node_used_again_while_queued_keeps_its_place_in_the_order() -> None:
    cache = PrefixCache(1000, 4)
    for start in range(1, 20):
        serve(cache, prompt(start))
    for _ in range(500):
        serve(cache, [*prompt(1), 1])
    assert isinstance(cache.store.queue.policy, LRU)
    assert len(cache.store.queue.policy._heap) + len(cache.store.queue.policy._line) <= 21
    cache.evict(18 * 2)
    assert cache.match([*prompt(1), 1]) == 8


def test_entries_of_superseded_tails_are_swept() -> None:
    cache = PrefixCache(2000, 4096)
    history = [1]
    for turn in range(400):
        serve(cache, history)
        history.append(turn)
    assert isinstance(cache.store.queue.policy, LRU)
    assert len(cache.store.queue.policy._heap) + len(cache.store.queue.policy._line) < 300
    check_invariants(cache)


def test_priorities_leave_in_order() -> None:
    cache = PrefixCache(16, 4)
    for start, priority in ((1, 5), (2, -1), (3, 0), (4, -5), (5, 1)):
        serve(cache, prompt(start))
        cache.retain(prompt(start), [Retention(priority=priority)])
    order = []
    while cache.num_evictable_blocks:
        assert cache.store.tree.evict(2, spare_pinned=False) == 2
        order += [s for s in range(1, 6) if s not in order and not cache.match([*prompt(s), 0])]
    assert order == [4, 2, 3, 5, 1]


def test_what_has_expired_leaves_first() -> None:
    now = 0.0
    cache = PrefixCache(16, 4, clock=lambda: now)
    for start in (1, 2, 3):
        serve(cache, prompt(start))
    cache.retain(prompt(3), [Retention(priority=9, ttl=10)])
    cache.retain(prompt(2), [Retention(priority=-9)])
    now = 9.0
    assert cache.evict(2) == 2
    assert cache.match([*prompt(2), 0]) == 0
    now = 10.0
    assert cache.evict(2) == 2
    assert cache.match([*prompt(3), 0]) == 0
    assert cache.match([*prompt(1), 0]) == 8


def test_retention_covers_a_range_of_tokens() -> None:
    cache = PrefixCache(16, 4)
    serve(cache, prompt(1, 4))
    keep, low = cache.retain(
        prompt(1, 4), [Retention(start=0, end=5, priority=9), Retention(start=8, priority=-9)]
    )
    assert (keep.num_tokens, low.num_tokens) == (8, 8)
    check_invariants(cache)
    serve(cache, prompt(2, 1))
    assert cache.evict(2) == 2
    assert cache.match([*prompt(1, 4), 0]) == 8
    assert cache.match([*prompt(2, 1), 0]) == 4
    assert cache.evict(9) == 1
    assert cache.match([*prompt(1, 4), 0]) == 8


@pytest.mark.parametrize(
    "ranges",
    [
        [(0, 8), (4, 12)],
        [(4, None), (8, 12)],
        [(8, 12), (0, None)],
        [(0, 4), (0, 4)],
    ],
)
def test_overlapping_ranges_are_refused(ranges: list[tuple[int, int | None]]) -> None:
    cache = PrefixCache(16, 4)
    serve(cache, prompt(1, 4))
    with pytest.raises(ValueError, match="overlap"):
        cache.retain(prompt(1, 4), [Retention(start, end) for start, end in ranges])
    assert not cache.store.queue.pinned()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"start": -1}, r"\[-1, None\) is negative"),
        ({"start": 0, "end": -4}, r"\[0, -4\) is negative"),
        ({"start": 4, "end": 4}, r"\[4, 4\) is empty"),
        ({"ttl": -1.0}, "ttl must be at least 0 seconds, got -1.0"),
        ({"ttl": float("nan")}, "ttl must be at least 0"),
    ],
)
def test_negative_and_empty_ranges_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Retention(**wrong)


def test_an_unknown_policy_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match=r"unknown eviction policy 'mru'; there are: .*lru"):
        PrefixCache(4, policy="mru")
    assert policies["lru"] is LRU
    assert PrefixCache(4, policy=LRU()).store.queue.policy.name == "lru"


def test_a_policy_sees_use_size_and_depth() -> None:
    class Watching(HeapPolicy):
        name = "watching"

        def __init__(self) -> None:
            super().__init__()
            self.seen: list[tuple[int, int, int]] = []

        def key(self, node: Node) -> tuple[int, int]:
            return (node.uses, node.last_use)

        def used(self, node: Node) -> None:
            self.seen.append((node.uses, node.depth, node.num_tokens))

    policy = Watching()
    cache = PrefixCache(16, 4, policy=policy)
    serve(cache, prompt(1))
    serve(cache, [*prompt(1), 1, 1, 1, 1])
    serve(cache, prompt(2))
    cache.acquire(prompt(3)).release()  # nothing of it is in the tree
    assert policy.seen == [(1, 0, 8), (2, 0, 12), (1, 0, 8)]
    cache.evict(2)  # 2 was used last, but 1 more often
    assert cache.match([*prompt(1), 0]) == 8
    assert cache.match([*prompt(2), 0]) == 0


def test_uses_of_descendants_are_handed_up() -> None:
    cache = PrefixCache(64, 4)
    for tail in (1, 2, 3):
        serve(cache, [*prompt(1), tail, tail, tail, tail])
    cache.evict(3)
    ((_, _, node),) = nodes(cache)
    assert (node.uses, node.last_use) == (3, 3)


def test_policies_are_abstract() -> None:
    with pytest.raises(TypeError):
        EvictionPolicy()  # type: ignore[abstract]


def test_eviction_does_not_stall_at_many_leaves() -> None:
    """Time for one eviction grows by no more than a few times from a thousand leaves to 16 thousand."""

    def per_eviction(leaves: int) -> float:
        cache = PrefixCache(leaves + 8, 1, explain=False)
        for leaf in range(leaves):
            lease = cache.acquire([leaf])
            lease.commit(1)
            lease.release()
        best = float("inf")
        for _ in range(5):
            start = time.perf_counter()
            for _ in range(150):
                cache.evict(1)
            best = min(best, (time.perf_counter() - start) / 150)
        return best

    assert per_eviction(16_000) < 6 * per_eviction(1_000)
