"""Leases: locks, hits, copy-on-write, forks and release."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from radixcache.cache.check import check_invariants
from radixcache.cache.lease import BlockCopy, Lease
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.errors import CacheInUseError, LeaseReleasedError, OutOfBlocksError, TokenError
from radixcache.tokens import unpack
from tests.cache.model import snapshot
from tests.cache.serving import computed, gauges, serve


@pytest.fixture
def cache() -> PrefixCache:
    return PrefixCache(32, 4)


# -------------------------------------------------------------------- locks


def test_lock_moves_evictable_to_protected_and_unlock_restores(cache: PrefixCache) -> None:
    serve(cache, range(16))
    assert gauges(cache) == (28, 4, 0)
    lease = cache.acquire([*range(8), 99])
    assert gauges(cache) == (27, 2, 3)
    lease.release()
    assert gauges(cache) == (28, 4, 0)


def test_lock_covers_ancestors(cache: PrefixCache) -> None:
    serve(cache, range(12))
    serve(cache, [*range(8), 50, 51, 52, 53])  # the first eight tokens are a node of their own
    with cache.acquire([*range(12), 99]):
        assert cache.evict(100) == 1
        assert cache.match([*range(12), 99]) == 12
        check_invariants(cache)


def test_locks_nest(cache: PrefixCache) -> None:
    serve(cache, range(8))
    one, two = cache.acquire(range(9)), cache.acquire(range(9))
    one.release()
    assert cache.evict(100) == 0
    two.release()
    assert cache.evict(100) == 2


def test_a_split_inherits_the_lock(cache: PrefixCache) -> None:
    outer = computed(cache, range(16))
    inner = cache.acquire([*range(8), 99])
    inner.release()
    assert cache.num_evictable_blocks == 0
    check_invariants(cache)
    outer.release()
    assert cache.num_evictable_blocks == 4
    check_invariants(cache)


def test_releasing_twice_never_makes_a_lock_negative(cache: PrefixCache) -> None:
    lease = computed(cache, range(8))
    other = cache.acquire(range(9))
    for _ in range(3):
        lease.release()
    assert cache.num_evictable_blocks == 0
    check_invariants(cache)
    other.release()


def test_free_evictable_and_protected_add_up_to_the_pool(cache: PrefixCache) -> None:
    serve(cache, range(10))
    with computed(cache, range(20)):
        assert sum(gauges(cache)) == 32
        assert gauges(cache) == (27, 0, 5)
    assert sum(gauges(cache)) == 32


# -------------------------------------------------------------------- hits


def test_a_full_hit_recomputes_the_last_token(cache: PrefixCache) -> None:
    serve(cache, range(8))
    with cache.acquire(range(8)) as lease:
        assert lease.num_cached_tokens == 7
        assert lease.misses == {"last_token": 1}
        assert lease.copies == [BlockCopy(lease.copies[0].source, lease.block_table[1], 3)]


def test_a_running_requests_full_blocks_hit(cache: PrefixCache) -> None:
    with cache.acquire(range(12)) as running:
        assert cache.match(range(12)) == 0
        running.commit(9)
        with cache.acquire(range(12)) as other:
            assert other.num_cached_tokens == 8
            assert other.block_table[:2] == running.block_table[:2]
            assert other.misses == {"partial_block": 1, "not_yet_computed": 3}


def test_decoded_blocks_hit_while_the_request_runs(cache: PrefixCache) -> None:
    with computed(cache, range(6)) as lease:
        for token in (6, 7, 8):
            lease.extend([token])
            lease.commit(lease.num_tokens)
        assert cache.match([*range(9), 1]) == 8


def test_released_blocks_come_back_on_a_hit(cache: PrefixCache) -> None:
    with computed(cache, range(8)) as lease:
        table = list(lease.block_table)
    assert cache.num_free_blocks == 30
    with cache.acquire(range(9)) as lease:
        assert lease.block_table[:2] == table


def test_duplicates_are_swapped_for_the_published_block(cache: PrefixCache) -> None:
    one, two = cache.acquire(range(10)), cache.acquire(range(10))
    assert not set(one.block_table) & set(two.block_table)
    one.commit(10)
    two.commit(10)
    assert two.block_table[:2] == one.block_table[:2]
    assert two.block_table[2] != one.block_table[2]
    assert cache.num_free_blocks == 32 - 4
    assert cache.stats().duplicate_blocks == 2
    check_invariants(cache)


def test_a_duplicate_that_ends_inside_an_edge_is_swapped_too(cache: PrefixCache) -> None:
    one, two = cache.acquire(range(16)), cache.acquire([*range(8), 90, 91, 92, 93])
    one.commit(16)
    two.commit(12)
    assert two.block_table[:2] == one.block_table[:2]
    check_invariants(cache)
    one.release()
    assert cache.num_evictable_blocks == 2
    two.release()
    check_invariants(cache)


def test_requests_with_prompt_logprobs_skip_reads_but_publish(cache: PrefixCache) -> None:
    serve(cache, range(8))
    with cache.acquire(range(8), max_cached=0) as lease:
        assert lease.num_cached_tokens == 0
        assert lease.misses == {"cache_off": 8}
        lease.commit(8)
    assert cache.num_free_blocks == 30
    with cache.acquire([50] * 8, max_cached=0) as lease:
        lease.commit(8)
    assert cache.match([50] * 9) == 8


def test_preempted_requests_do_not_count_twice(cache: PrefixCache) -> None:
    lease = computed(cache, range(8))
    lease.extend([1, 2])
    tokens = lease.tokens
    lease.release()
    with cache.acquire(tokens, count=False) as resumed:
        assert resumed.num_cached_tokens == 8
    stats = cache.stats()
    assert (stats.requests, stats.prompt_tokens, stats.cached_tokens) == (1, 8, 0)


# -------------------------------------------------------------------- copy-on-write


def test_a_partial_hit_is_copied_and_its_source_held_until_then() -> None:
    cache = PrefixCache(4, 4)
    serve(cache, [1, 2, 3, 4, 5, 6])
    lease = cache.acquire([1, 2, 3, 4, 5, 9, 9])
    assert lease.num_cached_tokens == 5
    (copy,) = lease.copies
    assert copy.num_tokens == 1
    assert copy.target == lease.block_table[1]
    assert copy.source not in lease.block_table
    assert gauges(cache) == (1, 0, 3)
    assert cache.evict(10) == 0  # the source is held
    check_invariants(cache)
    lease.finish_copies()
    assert lease.copies == []
    assert gauges(cache) == (1, 1, 2)
    assert cache.evict(10) == 1
    lease.release()


def test_a_copy_target_starts_uncached(cache: PrefixCache) -> None:
    serve(cache, range(6))
    lease = cache.acquire([*range(5), 50, 51])
    target = lease.copies[0].target
    assert target in lease.fresh_blocks
    lease.release()  # nothing was copied or computed
    assert cache.match([*range(5), 50, 51]) == 5
    assert cache.num_cached_tokens_resident == 6
    check_invariants(cache)


def test_a_prompt_that_fits_without_a_copy_is_served_without_it() -> None:
    cache = PrefixCache(3, 4)
    serve(cache, range(12))
    with cache.acquire([*range(6), 50, 51, 52, 53]) as lease:
        assert lease.num_cached_tokens == 4
        assert lease.copies == []
        assert lease.misses == {"partial_block": 2, "diverged": 4}


def test_a_shared_tail_is_copied_before_the_write(cache: PrefixCache) -> None:
    lease = computed(cache, range(6))
    twin = lease.fork()
    assert twin.block_table == lease.block_table
    assert twin.copies == []
    tail = lease.block_table[1]
    twin.extend([50])
    assert twin.copies == [BlockCopy(tail, twin.block_table[1], 2)]
    assert lease.block_table[1] == tail
    lease.extend([60])  # the twin's copy still needs the tail as it is
    assert lease.copies == [BlockCopy(tail, lease.block_table[1], 2)]
    check_invariants(cache)
    twin.commit(7)
    free = cache.num_free_blocks
    lease.commit(7)
    assert cache.num_free_blocks == free + 1
    check_invariants(cache)


def test_a_copy_that_was_not_done_is_not_published(cache: PrefixCache) -> None:
    lease = computed(cache, range(6))
    twin = lease.fork()
    twin.extend([50])
    twin.release()
    assert cache.match(range(7)) == 4
    lease.release(publish=False)
    assert cache.match(range(7)) == 4
    check_invariants(cache)


def test_the_last_holder_of_a_tail_writes_it_in_place(cache: PrefixCache) -> None:
    lease = computed(cache, range(6))
    twin = lease.fork()
    twin.extend([50])
    twin.finish_copies()
    tail = lease.block_table[1]
    lease.extend([60])
    assert lease.copies == []
    assert lease.block_table[1] == tail


def test_a_tail_published_by_one_fork_is_copied_by_the_other(cache: PrefixCache) -> None:
    lease = computed(cache, range(6))
    twin = lease.fork()
    tail = lease.block_table[1]
    lease.release()
    assert cache.num_evictable_blocks == 0
    twin.extend([50])
    assert twin.copies == [BlockCopy(tail, twin.block_table[1], 2)]
    twin.commit(7)
    assert cache.num_evictable_blocks == 1
    check_invariants(cache)
    twin.release()
    check_invariants(cache)


def test_forks_release_a_shared_tail_once(cache: PrefixCache) -> None:
    leases = [computed(cache, range(6))]
    leases += [leases[0].fork() for _ in range(3)]
    for lease in leases:
        lease.release()
        check_invariants(cache)
    assert gauges(cache) == (30, 2, 0)


def test_a_fork_at_a_block_boundary_shares_everything(cache: PrefixCache) -> None:
    lease = computed(cache, range(8))
    twin = lease.fork()
    for one in (lease, twin):
        one.extend([7])
        assert one.copies == []
    assert twin.block_table[:2] == lease.block_table[:2]
    assert twin.block_table[2] != lease.block_table[2]


def test_a_fork_before_all_is_computed_computes_the_rest_itself(cache: PrefixCache) -> None:
    lease = cache.acquire(range(12))
    lease.commit(6)
    twin = lease.fork()
    assert twin.num_computed_tokens == 4
    assert twin.block_table[:1] == lease.block_table[:1]
    assert not set(twin.block_table[1:]) & set(lease.block_table)
    assert twin.fresh_blocks == twin.block_table[1:]
    lease.commit(12)
    twin.commit(12)
    assert twin.block_table == lease.block_table
    check_invariants(cache)


def test_a_fork_reports_what_its_request_reused(cache: PrefixCache) -> None:
    serve(cache, range(8))
    lease = computed(cache, range(10))
    lease.extend([1])
    twin = lease.fork()
    assert (twin.prompt_tokens, twin.num_tokens, twin.num_cached_tokens) == (10, 11, 8)
    assert twin.misses == lease.misses
    assert cache.stats().requests == 2


def test_forks_share_blocks_of_a_disabled_cache() -> None:
    cache = PrefixCache(8, 4, enabled=False)
    with computed(cache, range(10)) as lease, lease.fork() as twin:
        assert twin.block_table == lease.block_table
        twin.extend([1])
        assert len(twin.copies) == 1
        check_invariants(cache)
    assert cache.num_free_blocks == 8


def test_partial_grows_to_full(cache: PrefixCache) -> None:
    serve(cache, range(6))
    with cache.acquire([*range(6), 6]) as lease:
        assert lease.num_cached_tokens == 6
        lease.commit(7)
        lease.extend([7])
        lease.commit(8)
        assert cache.match([*range(8), 1]) == 8
    assert cache.num_cached_tokens_resident == 8  # the tail [4, 5] was superseded
    assert cache.num_free_blocks == 30


def test_a_superseded_source_is_freed_when_its_copy_is_done(cache: PrefixCache) -> None:
    serve(cache, range(6))
    waiting = cache.acquire([*range(5), 50])
    serve(cache, [*range(6), 6, 7])  # supersedes the tail that `waiting` copies from
    source = waiting.copies[0].source
    assert source not in cache.store.allocator.free_ids()
    check_invariants(cache)
    waiting.finish_copies()
    assert source in cache.store.allocator.free_ids()
    check_invariants(cache)


# -------------------------------------------------------------------- calls


def test_extend_accepts_what_pack_accepts(cache: PrefixCache) -> None:
    with cache.acquire([1]) as lease:
        lease.extend([2])
        lease.extend((3, 4, 5))
        lease.extend([])
        lease.extend(range(6, 8))
        assert unpack(lease.tokens) == [1, 2, 3, 4, 5, 6, 7]
        assert lease.num_tokens == 7
        assert len(lease.block_table) == 2


@pytest.mark.parametrize("bad", [[-1], [2**31], [True], [1.5], ["a"]])
def test_extend_refuses_bad_tokens_and_changes_nothing(cache: PrefixCache, bad: list[int]) -> None:
    with computed(cache, [1]) as lease:
        lease.extend([2])
        before = snapshot(cache)
        with pytest.raises(TokenError):
            lease.extend(bad)
        assert snapshot(cache) == before


def test_extend_without_room_changes_nothing() -> None:
    cache = PrefixCache(2, 4)
    with computed(cache, range(6)) as lease:
        before = snapshot(cache)
        with pytest.raises(OutOfBlocksError) as caught:
            lease.extend(range(7))
        assert (caught.value.needed, caught.value.available) == (2, 0)
        assert snapshot(cache) == before
        lease.extend([1, 2])


def test_fork_without_room_changes_nothing() -> None:
    cache = PrefixCache(3, 4)
    with cache.acquire(range(8)) as lease:
        before = snapshot(cache)
        with pytest.raises(OutOfBlocksError):
            lease.fork()
        assert snapshot(cache) == before


def test_copying_a_shared_tail_without_room_changes_nothing() -> None:
    cache = PrefixCache(2, 4)
    with computed(cache, range(6)) as lease, lease.fork() as twin:
        before = snapshot(cache)
        with pytest.raises(OutOfBlocksError):
            twin.extend([1])
        assert snapshot(cache) == before


def test_commit_refuses_to_go_back_or_too_far(cache: PrefixCache) -> None:
    with computed(cache, range(6)) as lease:
        for wrong in (5, 7, -1):
            with pytest.raises(ValueError, match=rf"commit\({wrong}\): 6 tokens are computed"):
                lease.commit(wrong)
        lease.commit(6)


@pytest.mark.parametrize(
    "call", [lambda one: one.extend([1]), lambda one: one.commit(6), lambda one: one.fork()]
)
def test_a_released_lease_is_refused(cache: PrefixCache, call: Callable[[Lease], object]) -> None:
    lease = computed(cache, range(6))
    lease.release()
    with pytest.raises(LeaseReleasedError):
        call(lease)
    assert "released" in repr(lease)


def test_an_exception_leaks_nothing_and_publishes_only_what_was_committed(cache: PrefixCache) -> None:
    def request() -> None:
        with cache.acquire(range(12)) as lease:
            lease.commit(6)
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        request()
    assert gauges(cache) == (30, 2, 0)
    assert cache.match(range(12)) == 6
    check_invariants(cache)


def test_release_without_publishing_keeps_full_blocks_only(cache: PrefixCache) -> None:
    lease = computed(cache, range(6))
    lease.release(publish=False)
    assert cache.match(range(7)) == 4
    assert gauges(cache) == (31, 1, 0)


def test_frees_wait_for_the_step_in_flight(cache: PrefixCache) -> None:
    """A block that a step still uses is not handed out until the lease says that it is done."""
    lease = computed(cache, range(8))
    with pytest.raises(OutOfBlocksError):
        cache.acquire(range(1000, 1000 + 31 * 4))
    lease.release()
    with cache.acquire(range(1000, 1000 + 31 * 4)):
        assert cache.num_evictable_blocks == 1


def test_reset_is_refused_while_leases_are_live(cache: PrefixCache) -> None:
    lease = computed(cache, range(8))
    with pytest.raises(CacheInUseError, match="1 leases are live"):
        cache.reset()
    assert cache.match(range(9)) == 8
    lease.release()
    cache.reset()


def test_fits_and_match_predict_acquire() -> None:
    cache = PrefixCache(4, 4)
    assert cache.fits(16)
    assert not cache.fits(17)
    serve(cache, range(16))
    assert cache.fits(16)
    with computed(cache, range(4)):
        assert cache.fits(12)
        assert not cache.fits(13)
