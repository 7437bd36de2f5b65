"""`Lease.truncate`: tokens that were drafted and rejected are taken back, with their blocks."""

from __future__ import annotations

import random

import numpy as np
import pytest

from radixcache.cache.check import check_invariants
from radixcache.cache.lease import BlockCopy
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.errors import LeaseReleasedError
from radixcache.tokens import unpack
from tests.cache.model import snapshot
from tests.cache.serving import computed, serve


@pytest.fixture
def cache() -> PrefixCache:
    return PrefixCache(16, 4)


def test_rejected_tokens_leave_with_the_blocks_only_they_needed(cache: PrefixCache) -> None:
    with computed(cache, range(6)) as lease:
        table = list(lease.block_table)
        lease.extend(range(50, 58))
        assert cache.num_free_blocks == 12
        lease.truncate(7)
        assert unpack(lease.tokens) == [*range(6), 50]
        assert lease.block_table == table
        assert lease.fresh_blocks == []
        assert cache.num_free_blocks == 14
        check_invariants(cache)
        lease.extend([60, 61])
        lease.commit(9)
        assert unpack(lease.tokens) == [*range(6), 50, 60, 61]
    assert cache.match([*range(6), 50, 60, 61, 0]) == 9


def test_blocks_that_were_dropped_are_not_fresh_any_more(cache: PrefixCache) -> None:
    """Whoever clears fresh blocks would otherwise wipe what another lease has in them by then."""
    lease = computed(cache, range(4))
    lease.extend(range(9))
    first, *dropped = lease.fresh_blocks
    lease.truncate(5)
    other = cache.acquire(range(100, 108))
    assert set(other.block_table) == set(dropped)
    assert lease.fresh_blocks == [first]
    lease.release()
    other.release()


def test_nothing_published_is_dropped(cache: PrefixCache) -> None:
    with computed(cache, range(8)) as lease:
        lease.extend([1])
        lease.truncate(8)
        assert len(lease.block_table) == 2
        assert cache.match([*range(8), 9]) == 8
        check_invariants(cache)


def test_a_prompt_is_cut_where_it_is_not_computed(cache: PrefixCache) -> None:
    with cache.acquire(range(12)) as lease:
        lease.commit(3)
        lease.truncate(5)
        lease.commit(5)
        assert lease.prompt_tokens == 12
        check_invariants(cache)
    assert cache.match(range(12)) == 5


def test_a_copy_stays_pending_when_what_followed_it_is_taken_back(cache: PrefixCache) -> None:
    lease = computed(cache, range(6))
    twin = lease.fork()
    tail = lease.block_table[1]
    twin.extend(range(50, 56))
    twin.truncate(6)
    assert twin.copies == [BlockCopy(tail, twin.block_table[1], 2)]
    check_invariants(cache)
    lease.extend([60])
    assert lease.copies == [BlockCopy(tail, lease.block_table[1], 2)]
    third = twin.fork()  # copies from the same source, as the twin's own tail is not written yet
    assert third.copies == [BlockCopy(tail, third.block_table[1], 2)]
    for one in (lease, twin, third):
        one.commit(one.num_tokens)
        one.release()
        check_invariants(cache)
    assert cache.num_protected_blocks == 0


def test_blocks_shared_with_a_fork_stay_the_forks() -> None:
    cache = PrefixCache(16, 4, enabled=False)
    with computed(cache, range(10)) as lease, lease.fork() as twin:
        twin.extend(range(8))
        twin.truncate(10)
        assert twin.block_table[:2] == lease.block_table[:2]
        assert cache.num_free_blocks == 16 - 4  # the copy of the tail is the twin's
        check_invariants(cache)
    assert cache.num_free_blocks == 16


def test_one_token_at_a_time_goes_on_after_it(cache: PrefixCache) -> None:
    """The short way through `extend` must not run past the blocks that are left."""
    with computed(cache, range(5)) as lease:
        lease.extend(range(20))
        lease.truncate(6)
        for token in range(10):
            lease.extend([token])
            check_invariants(cache)
            lease.commit(lease.num_tokens)
        assert len(lease.block_table) == 4


@pytest.mark.parametrize("wrong", [4, 9, -1, 5.0, None, True, "6"])
def test_a_length_out_of_range_is_refused_and_changes_nothing(cache: PrefixCache, wrong: object) -> None:
    with computed(cache, range(5)) as lease:
        lease.extend([1, 2, 3])
        before = snapshot(cache)
        with pytest.raises(ValueError, match=r"truncate|num_tokens"):
            lease.truncate(wrong)  # type: ignore[arg-type]
        assert snapshot(cache) == before
        lease.truncate(np.int64(5))  # type: ignore[arg-type]
        assert lease.num_tokens == 5


def test_a_released_lease_is_refused(cache: PrefixCache) -> None:
    lease = computed(cache, range(5))
    lease.release()
    with pytest.raises(LeaseReleasedError):
        lease.truncate(5)


def test_speculation_ends_where_plain_decoding_does() -> None:
    """Drafts of random length, accepted in part: the same blocks are published as without them."""
    rng = random.Random(5)
    plain, drafted = PrefixCache(64, 4), PrefixCache(64, 4)
    answer = rng.choices(range(9), k=90)
    serve(plain, [7] * 6, answer)
    with computed(drafted, [7] * 6) as lease:
        done = 0
        while done < len(answer):
            wanted = answer[done : done + rng.randint(1, 9)]
            right = rng.randint(1, len(wanted))
            lease.extend([*wanted[:right], *([99] * rng.randint(0, 9))])
            lease.truncate(6 + done + right)
            lease.commit(6 + done + right)
            done += right
            check_invariants(drafted)
    query = [7] * 6 + answer
    assert drafted.match([*query, 0]) == plain.match([*query, 0]) == 96
    assert drafted.num_free_blocks == plain.num_free_blocks
