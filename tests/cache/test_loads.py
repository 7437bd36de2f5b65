"""Loads: what lower tiers hold beside the pool, on its way into a lease."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import pytest

from radixcache.cache.check import check_invariants
from radixcache.cache.digest import block_digests, namespace_digest
from radixcache.cache.events import CacheEvent
from radixcache.cache.loads import BlockLoad, LowerHit, LowerQuery, TierRun
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.errors import LeaseReleasedError, OutOfBlocksError
from radixcache.tokens import pack
from tests.cache.model import snapshot
from tests.cache.serving import gauges, serve


class Shelf:
    """Lower tiers by digest: the first blocks of a sequence in memory, the others on disk."""

    def __init__(self, size: int = 4, in_memory: int = 2) -> None:
        self.size = size
        self.in_memory = in_memory
        self.blocks: dict[bytes, str] = {}
        self.queries: list[LowerQuery] = []

    def put(self, tokens: Iterable[int], namespace: str = "") -> list[bytes]:
        digests = block_digests(namespace_digest(namespace), pack(tokens), 4 * self.size)
        for at, digest in enumerate(digests):
            self.blocks[digest] = "memory" if at < self.in_memory else "disk"
        return digests

    def match(self, query: LowerQuery) -> Iterable[TierRun]:
        self.queries.append(query)
        for digest in query.digests:
            if digest not in self.blocks:
                return
            yield TierRun(self.blocks[digest], self.size)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def cache(shelf: Shelf) -> PrefixCache:
    return PrefixCache(16, 4, lower=shelf)


def test_what_lower_tiers_hold_is_reported_beside_what_the_pool_holds(
    cache: PrefixCache, shelf: Shelf
) -> None:
    serve(cache, range(4))
    digests = shelf.put(range(16))
    with cache.acquire(range(18)) as lease:
        assert lease.lower == LowerHit(
            4, 12, 0, (TierRun("memory", 4), TierRun("disk", 4), TierRun("disk", 4))
        )
        assert lease.num_cached_tokens == 16
        assert lease.num_computed_tokens == 4
        assert lease.loading
        assert lease.loads == tuple(
            BlockLoad("memory" if at < 2 else "disk", digests[at], lease.block_table[at], 4 * at, 4)
            for at in (1, 2, 3)
        )
        assert lease.misses == {"never_seen": 2}
        assert cache.match(range(18)) == 4
        check_invariants(cache)
        lease.fail_loads()
    query = shelf.queries[-1]
    assert (query.start, query.block_size, query.parent) == (4, 4, digests[0])
    assert query.tokens == pack(range(18))
    assert query.digests == digests[1:]


def test_loaded_blocks_are_computed_and_published(cache: PrefixCache, shelf: Shelf) -> None:
    shelf.put(range(16))
    with cache.acquire(range(18)) as lease:
        lease.finish_copies()
        lease.finish_loads(11)  # two blocks and most of a third
        assert lease.num_computed_tokens == 8
        assert cache.match(range(18)) == 8
        assert [load.start for load in lease.loads] == [8, 12]
        check_invariants(cache)
        lease.finish_loads()
        assert not lease.loading
        assert cache.match(range(18)) == 16
        lease.commit(18)
        check_invariants(cache)
    with cache.acquire([*range(18), 1]) as lease:
        assert lease.num_cached_tokens == 18
        assert lease.lower is None
    stats = cache.stats()
    assert stats.loaded_tokens == {"memory": 8, "disk": 8}
    assert stats.pool_tokens == 18
    assert stats.cached_tokens == 34


def test_the_last_token_is_computed_though_its_block_is_loaded(cache: PrefixCache, shelf: Shelf) -> None:
    shelf.put(range(8))
    with cache.acquire(range(8)) as lease:
        assert [load.num_tokens for load in lease.loads] == [4, 3]
        assert lease.misses == {"last_token": 1}
        lease.finish_loads()
        assert lease.num_computed_tokens == 7
        assert cache.match([*range(8), 1]) == 4
        lease.commit(8)
        assert cache.match([*range(8), 1]) == 8
    with cache.acquire(range(8), recompute_last=False) as lease:
        assert lease.num_cached_tokens == 8


def test_no_last_token_is_computed_for_a_caller_that_needs_none(cache: PrefixCache, shelf: Shelf) -> None:
    shelf.put(range(8))
    with cache.acquire(range(8), recompute_last=False) as lease:
        assert [load.num_tokens for load in lease.loads] == [4, 4]
        assert lease.misses == {}
        lease.finish_loads()
    assert cache.match([*range(8), 1]) == 8


@pytest.mark.parametrize(
    ("limit", "tokens"), [(0, []), (3, [3]), (4, [4]), (6, [4, 2]), (8, [4, 4]), (11, [4, 4, 3])]
)
def test_reuse_stops_where_it_is_told_to(
    cache: PrefixCache, shelf: Shelf, limit: int, tokens: list[int]
) -> None:
    shelf.put(range(12))
    with cache.acquire(range(14), max_cached=limit) as lease:
        assert [load.num_tokens for load in lease.loads] == tokens
        assert lease.misses == {"cache_off": 14 - limit}
        lease.finish_loads()
        lease.commit(14)


def test_the_caller_decides_what_is_worth_loading(cache: PrefixCache, shelf: Shelf) -> None:
    shelf.put(range(12))
    seen: list[LowerHit] = []

    def first_block(hit: LowerHit) -> int:
        seen.append(hit)
        return 7

    with cache.acquire(range(14), load=first_block) as lease:
        assert [load.start for load in lease.loads] == [0]
        assert lease.misses == {"load_declined": 8, "never_seen": 2}
        lease.finish_loads()
        lease.commit(14)
    assert seen == [LowerHit(0, 12, 0, (TierRun("memory", 4), TierRun("memory", 4), TierRun("disk", 4)))]
    shelf.put(range(50, 58))
    with cache.acquire(range(50, 58), load=lambda hit: 0) as lease:
        assert not lease.loading
        assert lease.misses == {"load_declined": 7, "last_token": 1}
        assert lease.lower is not None
        lease.commit(8)
    assert cache.stats().loaded_tokens == {"memory": 4}


def test_a_copy_in_the_pool_is_done_where_nothing_is_loaded(cache: PrefixCache, shelf: Shelf) -> None:
    serve(cache, [*range(6), 99])
    shelf.put(range(12))
    with cache.acquire(range(12), load=lambda hit: 0 if hit.in_pool else 12) as lease:
        assert lease.lower is not None
        assert (lease.lower.start, lease.lower.in_pool) == (4, 2)
        assert [copy.num_tokens for copy in lease.copies] == [2]
        assert lease.num_cached_tokens == 6
        assert lease.misses == {"load_declined": 5, "last_token": 1}
    with cache.acquire(range(12)) as lease:
        assert lease.copies == []
        assert [load.start for load in lease.loads] == [4, 8]
        check_invariants(cache)
        lease.fail_loads()


def test_tiers_are_not_asked_for_what_the_pool_has(cache: PrefixCache, shelf: Shelf) -> None:
    serve(cache, range(8))
    shelf.put(range(8))
    shelf.queries.clear()
    for prompt in (range(8), range(9), range(3)):
        with cache.acquire(prompt) as lease:
            assert lease.lower is None
    assert shelf.queries == []


def test_nothing_is_computed_past_what_is_being_loaded(cache: PrefixCache, shelf: Shelf) -> None:
    shelf.put(range(8))
    with cache.acquire(range(12)) as lease:
        lease.commit(0)
        for wrong in (1, 8, 12):
            with pytest.raises(ValueError, match="tokens from 0 on are being loaded"):
                lease.commit(wrong)
        lease.extend([1])
        with pytest.raises(ValueError, match="8 tokens are computed or being loaded"):
            lease.truncate(7)
        lease.truncate(9)
        lease.finish_loads(4)
        with pytest.raises(ValueError, match="tokens from 4 on are being loaded"):
            lease.commit(5)
        lease.finish_loads()
        lease.commit(9)
        check_invariants(cache)


def test_a_load_that_fails_is_a_shorter_hit(cache: PrefixCache, shelf: Shelf) -> None:
    shelf.put(range(12))
    with cache.acquire(range(14)) as lease:
        lease.finish_copies()
        targets = [load.target for load in lease.loads]
        lease.finish_loads(4)
        lease.fail_loads(8)  # the second may still come, the third will not
        assert [load.start for load in lease.loads] == [4]
        assert lease.num_cached_tokens == 8
        assert lease.misses == {"load_failed": 4, "never_seen": 2}
        assert lease.fresh_blocks == [targets[2]]  # half written perhaps, so to be cleared again
        lease.finish_loads()
        lease.commit(14)
        check_invariants(cache)
    stats = cache.stats()
    assert stats.loaded_tokens == {"memory": 8}
    assert (stats.cached_tokens, stats.missed_tokens) == (8, {"load_failed": 4, "never_seen": 2})
    assert cache.match([*range(14), 1]) == 14


def test_a_late_load_is_given_up_while_it_still_writes(cache: PrefixCache, shelf: Shelf) -> None:
    shelf.put(range(12))
    with cache.acquire(range(14)) as lease:
        lease.finish_copies()
        targets = [load.target for load in lease.loads]
        lease.fail_loads(4, reason="load_late", still_writing=True)
        assert lease.block_table[0] == targets[0]
        assert not set(lease.block_table) & set(targets[1:])
        assert lease.fresh_blocks == lease.block_table[1:3]
        assert gauges(cache) == (16 - 6, 0, 4)
        assert cache.num_draining_blocks == 2
        check_invariants(cache)
        lease.finish_loads()
        lease.commit(14)
        assert lease.misses == {"load_late": 8, "never_seen": 2}
        cache.drained(targets[1:])
        check_invariants(cache)
    assert cache.num_draining_blocks == 0


def test_giving_up_a_late_load_without_room_changes_nothing(shelf: Shelf) -> None:
    cache = PrefixCache(4, 4, lower=shelf)
    shelf.put(range(12))
    lease = cache.acquire(range(14))
    before = snapshot(cache)
    with pytest.raises(OutOfBlocksError):
        lease.fail_loads(still_writing=True)
    assert snapshot(cache) == before
    targets = [load.target for load in lease.loads]
    lease.release()
    assert cache.num_draining_blocks == 3
    check_invariants(cache)
    cache.drained(targets)
    assert cache.num_free_blocks == 4


def test_blocks_drain_that_are_still_written_when_a_lease_ends(cache: PrefixCache, shelf: Shelf) -> None:
    shelf.put(range(16))
    with cache.acquire(range(18)) as lease:
        lease.finish_loads(4)
        targets = [load.target for load in lease.loads]
    assert gauges(cache) == (12, 1, 0)
    assert cache.num_draining_blocks == 3
    check_invariants(cache)
    assert lease.misses == {"load_late": 12, "never_seen": 2}
    assert cache.stats().missed_tokens == lease.misses
    with cache.acquire(range(100, 148)) as other:
        assert not set(other.block_table) & set(targets)
    cache.drained([load.target for load in lease.loads])
    assert gauges(cache) == (15, 1, 0)
    for call in (lease.finish_loads, lease.fail_loads):
        with pytest.raises(LeaseReleasedError):
            call()


def test_a_cache_that_is_abandoned_keeps_what_loaders_write(cache: PrefixCache, shelf: Shelf) -> None:
    shelf.put(range(8))
    lease = cache.acquire(range(10))
    targets = {load.target for load in lease.loads}
    cache.abandon()
    assert cache.store.draining.blocks == targets
    assert cache.num_free_blocks == 14
    check_invariants(cache)
    cache.drained(targets)


def test_two_requests_that_load_the_same_end_with_one_copy(cache: PrefixCache, shelf: Shelf) -> None:
    shelf.put(range(8))
    one, two = cache.acquire(range(9)), cache.acquire(range(9))
    two.finish_loads()
    one.finish_loads()
    assert one.block_table[:2] == two.block_table[:2]
    check_invariants(cache)
    one.release()
    two.release()
    assert gauges(cache) == (14, 2, 0)


def test_a_fork_of_a_loading_lease_computes_for_itself(cache: PrefixCache, shelf: Shelf) -> None:
    shelf.put(range(8))
    with cache.acquire(range(10)) as lease:
        lease.finish_loads(4)
        with lease.fork() as twin:
            assert not twin.loading
            assert twin.num_computed_tokens == 4
            assert twin.block_table[0] == lease.block_table[0]
            assert not set(twin.block_table[1:]) & set(lease.block_table)
            twin.commit(10)
            lease.finish_loads()
            check_invariants(cache)
            assert lease.block_table[1] == twin.block_table[1]


def test_requests_that_are_not_counted_do_not_move_the_counters(cache: PrefixCache, shelf: Shelf) -> None:
    shelf.put(range(8))
    with cache.acquire(range(10), count=False) as lease:
        lease.finish_loads(4)
        lease.fail_loads()
        assert lease.misses["load_failed"] == 4
    stats = cache.stats()
    assert (stats.requests, stats.cached_tokens, stats.missed_tokens, stats.loaded_tokens) == (0, 0, {}, {})


@pytest.mark.parametrize("value", [-1, 1.5, True, "4"])
def test_a_number_of_tokens_is_an_integer(cache: PrefixCache, shelf: Shelf, value: object) -> None:
    shelf.put(range(8))
    with cache.acquire(range(10)) as lease:
        before = snapshot(cache)
        for call in (lease.finish_loads, lease.fail_loads):
            with pytest.raises(ValueError, match="num_tokens must be"):
                call(value)  # type: ignore[arg-type]
        assert snapshot(cache) == before
        lease.fail_loads()
    with pytest.raises(ValueError, match="tokens to load must be"):
        cache.acquire(range(10), load=lambda hit: value)  # type: ignore[arg-type,return-value]
    assert cache.num_protected_blocks == 0


class Lying(Shelf):
    def __init__(self, runs: object) -> None:
        super().__init__()
        self.runs = runs

    def match(self, query: LowerQuery) -> Iterable[TierRun]:
        if self.runs is None:
            raise OSError("the disk is gone")
        return self.runs  # type: ignore[return-value]


@pytest.mark.parametrize("runs", [None, 5, [("disk", -4)], [("disk", 4.5)], ["disk"], [("disk", None)]])
def test_tiers_that_fail_hold_nothing(runs: object, caplog: pytest.LogCaptureFixture) -> None:
    cache = PrefixCache(8, 4, lower=Lying(runs))
    with caplog.at_level(logging.WARNING), cache.acquire(range(10)) as lease:
        assert lease.lower is None
        assert lease.misses == {"never_seen": 10}
    assert "lower tiers could not be asked" in caplog.text


@pytest.mark.parametrize(
    ("runs", "loaded"),
    [
        ([("disk", 400)], 8),
        ([("disk", 6), ("disk", 4)], 4),
        ([("memory", 3), ("disk", 8)], 0),
        ([("memory", 0), ("disk", 8)], 8),
        ([], 0),
    ],
)
def test_only_whole_blocks_of_the_prompt_are_loaded(runs: list[tuple[str, int]], loaded: int) -> None:
    cache = PrefixCache(8, 4, lower=Lying(runs))
    with cache.acquire(range(10)) as lease:
        assert sum(load.num_tokens for load in lease.loads) == loaded == lease.num_cached_tokens
        check_invariants(cache)
        lease.fail_loads()
    assert cache.num_free_blocks == 8


def test_what_the_caller_raises_reaches_it_and_changes_nothing(cache: PrefixCache, shelf: Shelf) -> None:
    shelf.put(range(8))

    def broken(hit: LowerHit) -> int:
        raise KeyError("no rate")

    before = snapshot(cache)
    with pytest.raises(KeyError):
        cache.acquire(range(10), load=broken)
    assert snapshot(cache) == before


def test_a_listener_that_fails_leaves_no_load_behind(shelf: Shelf) -> None:
    failing = False

    def listen(event: CacheEvent) -> None:
        if failing:
            raise RuntimeError("listener")

    cache = PrefixCache(4, 4, lower=shelf, on_event=listen)
    shelf.put(range(8))
    serve(cache, range(100, 116))
    failing = True
    with pytest.raises(RuntimeError, match="listener"):
        cache.acquire(range(10))
    assert cache.num_free_blocks == 3
    assert not cache.store.live
    assert cache.num_draining_blocks == 0
    check_invariants(cache)


def test_a_cache_that_is_off_loads_nothing(shelf: Shelf) -> None:
    cache = PrefixCache(8, 4, lower=shelf, enabled=False)
    shelf.put(range(8))
    with cache.acquire(range(10)) as lease:
        assert not lease.loading
        assert lease.misses == {"cache_off": 10}
