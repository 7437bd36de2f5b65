"""What the tree finds, and how it grows and splits."""

from __future__ import annotations

import random

import pytest

from radixcache.cache.check import check_invariants, nodes
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.tokens import pack, unpack
from tests.cache.serving import computed, serve
from tests.naive import lcp


def edges(cache: PrefixCache) -> list[list[int]]:
    return sorted(unpack(node.edge) for _, _, node in nodes(cache))


@pytest.fixture
def cache() -> PrefixCache:
    return PrefixCache(64, 4)


def test_empty_prompts_match_nothing_and_cannot_be_acquired(cache: PrefixCache) -> None:
    assert cache.match([]) == 0
    with pytest.raises(ValueError, match="empty prompt"):
        cache.acquire([])
    assert not cache.store.live


def test_sub_block_prompts_miss_an_empty_cache(cache: PrefixCache) -> None:
    assert cache.match([1, 2, 3]) == 0


def test_sub_block_prompts_are_found_in_a_longer_block(cache: PrefixCache) -> None:
    serve(cache, [1, 2, 3, 4])
    assert cache.match([1, 2, 3]) == 2  # the last token is always computed
    assert cache.match([1, 2, 9]) == 2


def test_exact_match_leaves_one_token(cache: PrefixCache) -> None:
    serve(cache, range(12))
    assert cache.match(range(12)) == 11
    assert cache.match(range(13)) == 12


def test_a_query_shorter_than_an_edge_matches_into_it(cache: PrefixCache) -> None:
    serve(cache, range(32))
    assert edges(cache) == [list(range(32))]
    assert cache.match(range(10)) == 9
    assert cache.match(range(17)) == 16


def test_insert_reports_what_was_present(cache: PrefixCache) -> None:
    assert serve(cache, range(16)) == 0
    assert serve(cache, [*range(10), 99, 98]) == 10
    assert serve(cache, range(20)) == 16


def test_matching_changes_no_topology(cache: PrefixCache) -> None:
    serve(cache, range(16))
    before = edges(cache)
    for length in range(1, 20):
        cache.match([*range(length), 99])
    assert edges(cache) == before == [list(range(16))]


def test_split_mid_edge_and_again_deeper(cache: PrefixCache) -> None:
    serve(cache, range(24))
    serve(cache, [*range(16), 90, 91, 92, 93])
    assert edges(cache) == sorted([list(range(16)), [16, 17, 18, 19, 20, 21, 22, 23], [90, 91, 92, 93]])
    serve(cache, [*range(20), 80, 81, 82, 83])
    serve(cache, [*range(8), 70, 71, 72, 73])
    expected = [list(range(8)), list(range(8, 16)), [16, 17, 18, 19], [20, 21, 22, 23]]
    expected += [[70, 71, 72, 73], [80, 81, 82, 83], [90, 91, 92, 93]]
    assert edges(cache) == sorted(expected)
    check_invariants(cache)


def test_a_split_loses_no_token(cache: PrefixCache) -> None:
    serve(cache, range(24))
    for cut in (4, 8, 12, 16, 20):
        serve(cache, [*range(cut), 99])
        assert cache.match([*range(24), 7]) == 24
    check_invariants(cache)


def test_a_diverging_branch_keeps_its_own_blocks(cache: PrefixCache) -> None:
    with computed(cache, [*range(8), 1, 1, 1, 1]) as one, computed(cache, [*range(8), 2, 2, 2, 2]) as two:
        assert one.block_table[:2] == two.block_table[:2]
        assert one.block_table[2] != two.block_table[2]


def test_inserting_a_shorter_prefix_adds_nothing(cache: PrefixCache) -> None:
    serve(cache, range(16))
    held, used = cache.num_cached_tokens_resident, cache.num_free_blocks
    serve(cache, range(11))
    serve(cache, range(8))
    assert (cache.num_cached_tokens_resident, cache.num_free_blocks) == (held, used)


def test_inserting_again_is_idempotent(cache: PrefixCache) -> None:
    serve(cache, range(15), [50, 51, 52])
    before = (edges(cache), cache.num_free_blocks, cache.num_cached_tokens_resident)
    shape = None
    for _ in range(3):
        serve(cache, range(15), [50, 51, 52])
        assert (cache.num_free_blocks, cache.num_cached_tokens_resident) == before[1:]
        assert shape is None or edges(cache) == shape
        shape = edges(cache)
    check_invariants(cache)


def test_edges_hold_whole_blocks_and_tails_one_partial_block(cache: PrefixCache) -> None:
    serve(cache, range(10))
    assert edges(cache) == [list(range(8)), [8, 9]]
    assert cache.num_cached_tokens_resident == 10
    assert cache.match([*range(10), 77]) == 10


def test_a_longer_tail_supersedes_the_one_that_it_begins_with(cache: PrefixCache) -> None:
    serve(cache, [1, 2, 3, 4, 5])
    serve(cache, [1, 2, 3, 4, 9])
    serve(cache, [1, 2, 3, 4, 5, 6])
    assert edges(cache) == [[1, 2, 3, 4], [5, 6], [9]]
    serve(cache, [1, 2, 3, 4, 5])
    assert edges(cache) == [[1, 2, 3, 4], [5, 6], [9]]
    serve(cache, [1, 2, 3, 4, 5, 6, 7, 8])
    assert [5, 6] not in edges(cache)
    assert cache.match([1, 2, 3, 4, 9, 1]) == 5
    check_invariants(cache)


def test_a_conversation_grows_one_edge(cache: PrefixCache) -> None:
    history = list(range(100, 108))
    for turn in range(6):
        assert serve(cache, [*history, turn], [50 + turn] * 3) == (len(history) if turn else 0)
        history += [turn, 50 + turn, 50 + turn, 50 + turn]
    assert edges(cache) == [history]


def test_the_longest_partial_match_is_found_among_many_siblings() -> None:
    rng = random.Random(5)
    cache = PrefixCache(4000, 8)
    ids = [0, 1, 255, 256, 65_536, 2**24, 2**31 - 1]  # bytes sort otherwise than numbers
    known: list[list[int]] = []
    for _ in range(300):
        prompt = [7] * 8 + rng.choices(ids, k=rng.randint(1, 12))
        assert cache.match(prompt) == min(max((lcp(prompt, k) for k in known), default=0), len(prompt) - 1)
        serve(cache, prompt)
        known.append(prompt)
    check_invariants(cache)


def test_long_edges_are_continued_in_a_child() -> None:
    cache = PrefixCache(3000, 4)
    with computed(cache, range(5000)) as lease:
        for token in range(400):
            lease.extend([token])
            lease.commit(lease.num_tokens)
        assert lease.node.num_tokens == 400
        assert cache.match([*range(5000), *range(400), 1]) == 5400
    check_invariants(cache)


def test_long_edges_shrink_piece_by_piece() -> None:
    cache = PrefixCache(20_000, 4)
    serve(cache, range(80_000))
    for _ in range(30):
        assert cache.evict(1) == 1
    assert cache.match(range(80_000)) == 80_000 - 120
    assert max(len(node.edge) for _, _, node in nodes(cache)) < 4 * 80_000 - 30_000
    check_invariants(cache)
    assert cache.evict(10_000) == 10_000
    check_invariants(cache)


def test_a_disabled_cache_never_hits() -> None:
    cache = PrefixCache(64, 4, enabled=False)
    for _ in range(3):
        assert serve(cache, range(20), [1, 2, 3]) == 0
        assert cache.match(range(20)) == 0
        assert cache.num_free_blocks == 64
    assert cache.stats().missed_tokens == {"cache_off": 60}
    check_invariants(cache)


def test_reset_forgets_everything(cache: PrefixCache) -> None:
    serve(cache, range(30))
    serve(cache, range(30), namespace="other")
    cache.reset()
    assert cache.num_free_blocks == 64
    assert cache.num_cached_tokens_resident == 0
    assert cache.match(range(30)) == 0
    check_invariants(cache)


def test_ten_thousand_prompts_with_one_long_prefix_stay_under_twice_its_memory() -> None:
    prefix = pack(range(10_000))
    cache = PrefixCache(25_000, 16)
    serve(cache, prefix)
    base = cache.num_cached_tokens_resident
    for index in range(10_000):
        serve(cache, prefix + pack([100_000 + index]))
    assert cache.num_cached_tokens_resident <= 2 * base
    assert cache.store.history is not None
    assert cache.store.history.num_tokens <= 2 * base
    assert sum(len(node.edge) for _, _, node in nodes(cache)) <= 2 * len(prefix)
    check_invariants(cache)


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="num_blocks must be at least 1, got 0"):
        PrefixCache(0)
    with pytest.raises(ValueError, match="block_size must be at least 1, got -1"):
        PrefixCache(1, -1)


@pytest.mark.parametrize("block_size", [1, 4, 16])
@pytest.mark.parametrize("seed", range(3))
def test_cached_tokens_equal_brute_force_in_an_unbounded_pool(block_size: int, seed: int) -> None:
    rng = random.Random(seed)
    cache = PrefixCache(100_000, block_size)
    known: list[list[int]] = [[]]
    for _ in range(250):
        base = rng.choice(known)
        prompt = base[: rng.randint(0, len(base))] + rng.choices(range(3), k=rng.randint(1, 40))
        answer = rng.choices(range(3), k=rng.choice([0, 0, 1, 5, 33]))
        expected = min(max(lcp(prompt, k) for k in known), len(prompt) - 1)
        assert serve(cache, prompt, answer) == expected
        known.append(prompt + answer)
    check_invariants(cache)
