"""What each eviction policy keeps, and that all of them keep the invariants."""

from __future__ import annotations

import random
import sys
from array import array
from collections.abc import Sequence

import pytest

from benchmarks.policy_workloads import DESIGN, HELD_OUT
from radixcache.cache.check import check_invariants
from radixcache.cache.eviction import Auto, Density, EvictionPolicy, policies
from radixcache.cache.eviction.gdsf import ATTENTION_TOKENS
from radixcache.cache.eviction.miniature import Miniature
from radixcache.cache.eviction.nodeuse import NodeUse
from radixcache.cache.eviction.reuse import EDGES, NUM_BINS, ReuseModel, age_bin, class_of
from radixcache.cache.eviction.sampling import Sampled, Sampler
from radixcache.cache.node import Node
from radixcache.cache.prefix_cache import PrefixCache
from tests.cache.driver import OPERATIONS, Driver
from tests.cache.serving import serve

EVERY = sorted(policies)
KINDS = {**DESIGN, **HELD_OUT}


def prompt(start: int, blocks: int = 2) -> list[int]:
    return list(range(100 * start, 100 * start + 4 * blocks))


def fill(calls: Sequence[Sequence[int]], capacity: int, policy: str | EvictionPolicy) -> int:
    """Tokens reused by prompts one after another, in blocks of one token."""
    cache = PrefixCache(capacity, 1, policy=policy, explain=False)
    hits = 0
    for tokens in calls:
        with cache.acquire(array("i", tokens), recompute_last=False) as lease:
            hits += lease.num_cached_tokens
            lease.commit(lease.num_tokens)
    check_invariants(cache)
    return hits


def one_by_one(cache: PrefixCache, starts: Sequence[int]) -> list[int]:
    """Evict everything, two blocks at a time; which prompts of two blocks left, in order."""
    order: list[int] = []
    while cache.num_evictable_blocks:
        cache.evict(2)
        order += [s for s in starts if s not in order and not cache.match([*prompt(s), 0])]
    return order


@pytest.mark.parametrize("policy", EVERY)
@pytest.mark.parametrize(("num_blocks", "block_size", "longest"), [(9, 4, 20), (24, 1, 14)])
def test_invariants_hold_over_random_operations(
    policy: str, num_blocks: int, block_size: int, longest: int
) -> None:
    rng = random.Random(f"{policy} {num_blocks}")
    driver = Driver(num_blocks, block_size, policy)
    for _ in range(300):
        tokens = rng.choices([0, 1, 2], k=rng.randint(1, longest))
        namespace: str | bytes = b"b" if rng.random() < 0.3 else ""
        driver.step(rng.choice(OPERATIONS), tokens, namespace, rng.randrange(6), rng.randrange(7))
        driver.sound()
    driver.finish()


@pytest.mark.parametrize("policy", EVERY)
def test_everything_can_be_evicted_and_the_cache_goes_on(policy: str) -> None:
    cache = PrefixCache(64, 4, policy=policy)
    for _ in range(2):
        for start in (1, 2, 1, 3, 4, 1):
            serve(cache, [*prompt(start, 3), start])
        assert cache.evict(1000) == 16
        assert cache.num_free_blocks == 64
        check_invariants(cache)
    cache.reset()
    assert serve(cache, prompt(1)) == 0
    assert serve(cache, prompt(1)) == 7


@pytest.mark.parametrize("policy", [name for name in EVERY if name != "lru"])
def test_a_pin_outlasts_any_policy(policy: str) -> None:
    cache = PrefixCache(40, 4, policy=policy)
    serve(cache, prompt(1))
    cache.pin(prompt(1))
    for start in range(2, 60):
        serve(cache, prompt(start))
    assert cache.match([*prompt(1), 0]) == 8


def test_lfu_counts_uses() -> None:
    cache = PrefixCache(32, 4, policy="lfu")
    for start in (1, 1, 1, 2, 2, 3):
        serve(cache, prompt(start))
    serve(cache, prompt(4))
    assert one_by_one(cache, (1, 2, 3, 4)) == [3, 4, 2, 1]


def test_slru_lets_what_was_used_once_go_first() -> None:
    cache = PrefixCache(64, 4, policy="slru")
    for start in (1, 1, 2, 3, 4, 5, 6):
        serve(cache, prompt(start))
    assert one_by_one(cache, range(1, 7)) == [2, 3, 4, 5, 6, 1]


def test_slru_protects_a_limited_share() -> None:
    cache = PrefixCache(64, 4, policy="slru")
    for start in (1, 1, 2, 2, 3, 3, 4, 4, 5, 5):
        serve(cache, prompt(start))
    assert one_by_one(cache, range(1, 6)) == [1, 2, 3, 4, 5]


def test_gdsf_keeps_what_is_deep_and_ages_what_was_popular() -> None:
    cache = PrefixCache(4 * ATTENTION_TOKENS, 4, policy="gdsf", explain=False)
    long = list(range(10**6, 10**6 + ATTENTION_TOKENS))
    serve(cache, long)
    for start in range(1, 4):
        serve(cache, prompt(start))
    assert cache.evict(6) == 6
    assert cache.match([*long, 0]) == ATTENTION_TOKENS
    shallow = PrefixCache(8, 4, policy="gdsf")
    for _ in range(5):
        serve(shallow, prompt(1))
    for start in range(2, 40):
        serve(shallow, prompt(start))
    assert shallow.match([*prompt(1), 0]) == 0


def test_s3fifo_and_arc_resist_a_scan() -> None:
    calls = []
    rng = random.Random(1)
    for number in range(1500):
        popular = rng.randrange(12)
        calls.append([10 * popular, 10 * popular + 1, 10 * popular + 2])
        calls.append(list(range(1000 + 10 * number, 1000 + 10 * number + 8)))
    hits = {policy: fill(calls, 60, policy) for policy in ("lru", "s3fifo", "arc", "density", "auto")}
    for policy in ("s3fifo", "arc", "density", "auto"):
        assert hits[policy] > 1.2 * hits["lru"], hits


def test_density_learns_that_a_loop_is_longer_than_the_cache() -> None:
    loop = [list(range(10 * i, 10 * i + 4)) for i in range(50)] * 30
    assert fill(loop, 100, "lru") == 0
    # at best half of it stays
    assert fill(loop, 100, "density") > 0.35 * 4 * len(loop)


def test_density_waits_for_turns_that_come_late() -> None:
    """Every third conversation goes on after 40 requests; the cache is filled by 20."""
    calls: list[list[int]] = []
    for number in range(3000):
        if number % 3 == 0 and number >= 40:
            calls.append([*calls[number - 40], 10**6 + number])
        else:
            calls.append(list(range(20 * number, 20 * number + 5)))
    assert fill(calls, 100, "density") > 2 * fill(calls, 100, "lru")


@pytest.mark.parametrize("seed", [1, 2])
def test_auto_is_not_much_worse_than_lru_where_lru_is_right(seed: int) -> None:
    """What was used last is used next: a stack."""
    rng = random.Random(seed)
    live: list[list[int]] = []
    calls = []
    for number in range(3000):
        if live and rng.random() < 0.75:
            tokens = live.pop(-1 - min(len(live) - 1, int(rng.expovariate(1 / 8))))
        else:
            tokens = list(range(30 * number, 30 * number + rng.randint(3, 20)))
        live.append(tokens)
        calls.append(tokens)
    assert fill(calls, 200, "auto") > 0.98 * fill(calls, 200, "lru")


def test_auto_finds_the_policy_that_does_best() -> None:
    rng = random.Random(4)
    weights = [1 / (i + 1) for i in range(300)]
    calls = []
    for number in range(4000):
        (chosen,) = rng.choices(range(300), weights)
        calls.append([*range(20 * chosen, 20 * chosen + 10), 10**6 + number])
    hits = fill(calls, 400, "auto")
    assert hits > 1.15 * fill(calls, 400, "lru")
    assert hits > 0.95 * max(fill(calls, 400, name) for name in policies)


def serve_all(cache: PrefixCache, kind: str, requests: int, learning: int = 0) -> int:
    """Tokens reused by a synthetic workload after the first `learning` requests.

    Prompts that are longer than the cache are left out.
    """
    longest = cache.num_blocks * cache.block_size
    found = [serve(cache, p) for p in KINDS[kind].make(3, requests) if len(p) <= longest]
    return sum(found[learning:])


def served(kind: str, requests: int, size: int, policy: str, learning: int) -> int:
    return serve_all(PrefixCache(size, 16, policy=policy, explain=False), kind, requests, learning)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_auto_ends_nowhere_below_lru(kind: str) -> None:
    size = KINDS[kind].sizes[0]
    hits = {policy: served(kind, 1000, size, policy, learning=500) for policy in ("lru", "auto")}
    assert hits["auto"] >= 0.98 * hits["lru"], hits


@pytest.mark.parametrize(("kind", "size"), [("faq", 300), ("scans", 200), ("questions", 200)])
def test_auto_ends_where_frequency_is_where_a_few_documents_are_asked_about(kind: str, size: int) -> None:
    hits = {policy: served(kind, 2500, size, policy, learning=1500) for policy in ("lru", "lfu", "auto")}
    assert hits["lfu"] > 1.1 * hits["lru"], hits
    assert hits["auto"] > 0.98 * hits["lfu"], hits


def test_auto_goes_to_lru_for_a_stack_and_back_when_the_workload_changes() -> None:
    policy = Auto()
    cache = PrefixCache(100, 16, policy=policy, explain=False)
    serve_all(cache, "stack", 1500)
    assert policy.active.name == "lru"
    serve_all(cache, "scans", 2000)
    assert policy.active.name != "lru"


def test_a_thinner_sample_leaves_no_block_behind_that_is_never_sampled_again() -> None:
    policy = Auto()
    cache = PrefixCache(2048, 1, policy=policy, explain=False)
    for number in range(60):  # short requests, used often: a frequency policy would never drop them
        serve(cache, [number % 4, *range(9)])
    before = policy._sampler.capacity
    for number in range(60):
        serve(cache, list(range(1000 * number, 1000 * number + 400)))
    assert policy._sampler.capacity < before
    kept = set().union(*(runner.cache._owners for runner in policy._runners))
    sampled: set[int] = set()
    for number in range(60):
        tokens = array("i", range(1000 * number, 1000 * number + 400)).tobytes()
        sampled |= {block.digest for block in policy._sampler.sample(tokens, 400, "")}
    assert kept <= sampled


@pytest.mark.parametrize("name", ["lru", "lfu", "gdsf"])
def test_a_miniature_of_every_block_hits_what_the_cache_hits(name: str) -> None:
    prompts = KINDS["faq"].make(2, 800)
    sampler = Sampler(400, 16, 1 << 20)
    sampler._adapt = lambda count: None  # type: ignore[method-assign]
    small = Miniature(policies[name](), 16)
    hits = sum(small.request(sampler.sample(p.tobytes(), len(p), ""), 400) for p in prompts)
    cache = PrefixCache(400, 16, policy=name, explain=False)
    assert hits == pytest.approx(sum(serve(cache, p) for p in prompts) / 16, rel=0.05)


def test_density_tells_what_was_used_fifty_times_from_what_was_used_ten_times() -> None:
    assert class_of(10, 8) != class_of(50, 8)


def test_auto_changes_its_mind_without_losing_a_candidate() -> None:
    policy = Auto()
    cache = PrefixCache(64, 4, policy=policy)
    for start in range(1, 20):
        serve(cache, prompt(start))
    for runner in policy._runners:
        policy._change(runner)
        assert policy.active is runner.real
        check_invariants(cache)
    assert cache.evict(100) == 38


def test_memory_of_the_learning_policies_is_bounded() -> None:
    model = ReuseModel(500)
    for number in range(400):
        model.request([Sampled(10 * number + i, i) for i in range(10)], 10)
    assert len(model._seen) == 500
    small = Miniature(Density(model), 1)
    for number in range(100):
        sampled = [Sampled(10 * number + i, i) for i in range(10)]
        small.request(sampled, 32)
        assert len(small) <= 32


def test_a_miniature_counts_like_a_cache() -> None:
    rng = random.Random(2)
    small = Miniature(policies["lru"](), 1)
    cache = PrefixCache(20, 1, explain=False)
    for _ in range(400):
        tokens = [rng.randrange(3) for _ in range(rng.randint(1, 8))]
        sampled = [Sampled(hash(tuple(tokens[: i + 1])), i) for i in range(len(tokens))]
        with cache.acquire(tokens, recompute_last=False) as lease:
            assert small.request(sampled, 20) == lease.num_cached_tokens
            lease.commit(len(tokens))


def test_a_request_longer_than_a_miniature_keeps_its_head() -> None:
    small = Miniature(policies["lru"](), 1)
    sampled = [Sampled(i, i) for i in range(50)]
    assert small.request(sampled, 8) == 0
    assert small.request(sampled, 8) == 8


def test_the_sample_is_the_same_every_time_and_about_as_large_as_wanted() -> None:
    rng = random.Random(5)
    tokens = array("i", [rng.randrange(50_000) for _ in range(40_000)])
    packed = tokens.tobytes()

    def sample(num_tokens: int, namespace: str | bytes) -> list[Sampled]:
        return Sampler(1 << 20, 4, 1 << 14).sample(packed[: 4 * num_tokens], num_tokens, namespace)

    assert Sampler(1 << 20, 4, 1 << 14).shift == 6
    whole = sample(16_000, "a")
    assert 30 < len(whole) < 100  # of 4,000 blocks one in 64
    assert all(0 <= block.place < 4_000 for block in whole)
    assert sample(8_003, "a") == [block for block in whole if block.place < 2_000]
    assert [block.place for block in sample(16_000, "b")] == [block.place for block in whole]
    assert not {block.digest for block in sample(16_000, b"a")} & {block.digest for block in whole}
    assert sample(3, "a") == []


def test_the_sample_gets_thinner_as_requests_get_long_and_stays_a_part_of_what_it_was() -> None:
    sampler = Sampler(10_000, 1, 1 << 20)
    tokens = array("i", range(2000)).tobytes()
    before = {block.digest for block in sampler.sample(tokens, 100, "")}
    for _ in range(20):
        sampler.sample(tokens, 2000, "")
    after = {block.digest for block in sampler.sample(tokens, 100, "")}
    assert sampler.shift > 4
    assert sampler.capacity >= 64
    assert after <= before


def test_age_bins_cover_every_age() -> None:
    assert [age_bin(age) for age in range(6)] == [0, 1, 2, 3, 4, 5]
    for place, edge in enumerate(EDGES[:-1]):
        assert age_bin(edge) == place
    assert age_bin(EDGES[-1] * 10) == NUM_BINS - 1


def test_the_model_ranks_by_what_comes_back() -> None:
    """Blocks of short requests are used again 10 requests later, those of long ones never."""
    model = ReuseModel(4000)
    for number in range(600):
        model.request([Sampled(number, 0), Sampled(number - 10, 0)], 2)
        model.request([Sampled(10**6 + number, 0)], 100)
    short, long = class_of(1, 2), class_of(1, 100)
    assert model.rank[short][age_bin(5)] > 10 * model.rank[long][age_bin(5)]
    assert model.rank[short][age_bin(18)] > model.rank[short][age_bin(1)] > model.rank[short][age_bin(200)]


def test_a_request_counts_once_however_many_of_its_blocks_are_seen() -> None:
    """One long request in twenty never comes back; the short ones of the same class come back after 10."""
    model = ReuseModel(1 << 16)
    for number in range(1000):
        if number % 20 == 10:
            model.request([Sampled(10**6 + 100 * number + place, place) for place in range(60)], 60)
        else:
            model.request([Sampled(number % 10 + 100 * (number // 20), 0)], 60)
    again = model.rank[class_of(1, 60)]
    assert again[age_bin(9)] > 0.1


def test_what_a_length_changes_is_learned_from_all_uses_together() -> None:
    """Short requests come back twice as often as long ones, of which none was used five times."""
    model = ReuseModel(1 << 16)
    rng = random.Random(3)
    for number in range(3000):
        blocks, most, chance = (2, 7, 0.7) if number % 2 else (100, 3, 0.35)
        model.request([Sampled(number, 0)], blocks)
        while most > 1 and rng.random() < chance:
            model.request([Sampled(number, 0)], blocks)
            most -= 1
    for uses in (2, 5):
        short, long = (model.rank[class_of(uses, blocks)][age_bin(1)] for blocks in (2, 100))
        assert short > 1.3 * long > 0


def test_parts_of_a_node_are_counted_apart() -> None:
    use = NodeUse(0, 1, 4)
    use.grow(4, [(0, 1), (3, 1)])
    use.again(2, 7)
    use.grow(7, [(0, 2), (5, 1)])
    assert (use.starts, use.uses, use.end) == ([0, 4], [2, 1], 7)
    head = use.split(3)
    assert (head.starts, head.uses, head.end) == ([0], [2], 3)
    assert use.uses == [2, 1]
    use.cut(4)
    assert (use.starts, use.uses, use.end) == ([0], [2], 4)
    back = NodeUse(0, 9, 8)
    back.grow(8, [(2, 3), (4, 1)])  # was there before it was evicted: the history knows
    assert (back.starts, back.uses) == ([0, 3], [3, 1])


def test_a_policy_gives_whole_nodes_unless_it_says_otherwise() -> None:
    assert policies["lru"]().max_blocks(Node(None, b"", b"", 0, 0)) == sys.maxsize
