"""Why tokens missed, to the token."""

from __future__ import annotations

import random

import pytest

from radixcache.cache.history import History
from radixcache.cache.misses import MissReason
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.tokens import pack
from tests.cache.serving import computed, serve
from tests.naive import lcp


@pytest.fixture
def cache() -> PrefixCache:
    return PrefixCache(64, 4)


def why(
    cache: PrefixCache, tokens: list[int] | range, namespace: str = ""
) -> tuple[dict[str, int], int | None]:
    with cache.acquire(tokens, namespace) as lease:
        assert sum(lease.misses.values()) == lease.prompt_tokens - lease.num_cached_tokens
        return lease.misses, lease.diverged_at


def test_never_seen(cache: PrefixCache) -> None:
    assert why(cache, range(10)) == ({"never_seen": 10}, None)
    serve(cache, range(10))
    assert why(cache, [99, *range(10)]) == ({"never_seen": 11}, None)


def test_a_prompt_that_extends_a_known_one_did_not_diverge(cache: PrefixCache) -> None:
    serve(cache, range(10))
    assert why(cache, range(15)) == ({"never_seen": 5}, None)


def test_diverged_names_the_token(cache: PrefixCache) -> None:
    serve(cache, range(10))
    assert why(cache, [*range(6), 50, 51, 52]) == ({"diverged": 3}, 6)
    assert why(cache, [*range(8), 50]) == ({"diverged": 1}, 8)


def test_last_token_of_a_full_hit(cache: PrefixCache) -> None:
    serve(cache, range(10))
    assert why(cache, range(10)) == ({"last_token": 1}, None)
    assert why(cache, range(8)) == ({"last_token": 1}, None)
    assert why(cache, range(5)) == ({"last_token": 1}, None)


def test_a_hit_up_to_a_new_last_token_is_no_full_hit(cache: PrefixCache) -> None:
    serve(cache, range(8))
    assert why(cache, [*range(8), 9]) == ({"never_seen": 1}, None)


def test_evicted(cache: PrefixCache) -> None:
    serve(cache, range(16))
    cache.evict(3)
    assert why(cache, range(16)) == ({"evicted": 12}, None)
    assert why(cache, [*range(10), 50]) == ({"evicted": 6, "diverged": 1}, 10)
    assert why(cache, range(20)) == ({"evicted": 12, "never_seen": 4}, None)


def test_not_yet_computed_and_partial_block(cache: PrefixCache) -> None:
    with cache.acquire(range(20)) as running:
        assert why(cache, range(20)) == ({"not_yet_computed": 20}, None)
        running.commit(10)
        assert why(cache, range(20)) == ({"partial_block": 2, "not_yet_computed": 10}, None)
        assert why(cache, range(24)) == (
            {"partial_block": 2, "not_yet_computed": 10, "never_seen": 4},
            None,
        )
        assert why(cache, [*range(12), 50]) == (
            {"partial_block": 2, "not_yet_computed": 2, "diverged": 1},
            12,
        )


def test_other_namespace(cache: PrefixCache) -> None:
    serve(cache, range(10), namespace="theirs")
    assert why(cache, range(12)) == ({"other_namespace": 10, "never_seen": 2}, None)
    serve(cache, [*range(4), 50], namespace="ours")
    assert why(cache, range(12), "ours") == ({"other_namespace": 6, "diverged": 2}, 4)


def test_what_was_asked_for_but_never_computed_is_not_evicted(cache: PrefixCache) -> None:
    cache.acquire(range(10)).release()
    assert why(cache, range(10)) == ({"never_seen": 10}, None)


def test_what_was_computed_but_not_published_is_not_evicted(cache: PrefixCache) -> None:
    computed(cache, range(10)).release(publish=False)
    assert why(cache, range(12)) == ({"never_seen": 4}, None)


def test_cache_off() -> None:
    cache = PrefixCache(64, 4, enabled=False)
    serve(cache, range(10))
    assert why(cache, range(10)) == ({"cache_off": 10}, None)


def test_without_explanations_misses_still_add_up() -> None:
    cache = PrefixCache(64, 4, explain=False)
    assert why(cache, range(10)) == ({"never_seen": 10}, None)
    serve(cache, range(10))
    assert why(cache, range(10)) == ({"last_token": 1}, None)
    assert why(cache, [*range(5), 50, 51]) == ({"never_seen": 2}, None)
    assert cache.store.history is None


def test_reasons_are_plain_strings() -> None:
    cache = PrefixCache(64, 4)
    (reason,) = cache.acquire([1]).misses
    assert type(reason) is str
    assert reason == MissReason.NEVER_SEEN
    assert {str(reason) for reason in MissReason} == {
        *("never_seen", "diverged", "evicted", "partial_block", "other_namespace"),
        *("not_yet_computed", "last_token", "cache_off"),
        *("load_declined", "load_failed", "load_late"),
    }


@pytest.mark.parametrize("seed", range(4))
def test_a_history_knows_every_sequence(seed: int) -> None:
    rng = random.Random(seed)
    history = History(1_000_000)
    known: dict[str, list[list[int]]] = {"": [], "x": [], "y": []}
    for _ in range(250):
        query = rng.choices([0, 0, 1, 2], k=rng.randint(1, 30))
        namespace = rng.choice(list(known))
        seen = history.lookup(pack(query), namespace)
        here = max((lcp(query, k) for k in known[namespace]), default=0)
        assert seen.here == here
        assert seen.elsewhere == max((lcp(query, k) for g in known.values() for k in g), default=0)
        assert seen.continues == any(
            len(k) > here and k[:here] == query[:here] for k in known[namespace] if here
        )
        history.add(pack(query), namespace)
        known[namespace].append(query)
    trie = {tuple(k[:n]) for g in known.values() for k in g for n in range(1, len(k) + 1)}
    assert history.num_tokens == len(trie)


def test_a_history_is_bounded_and_forgets_the_oldest() -> None:
    history = History(100)
    for start in range(0, 10_000, 20):
        history.add(pack(range(start, start + 20)), "")
        assert history.num_tokens <= 100
        history.add(pack([7] * 20), "")  # touched each time, so never the oldest
    assert history.lookup(pack([7] * 20), "").here == 20
    assert history.lookup(pack(range(9980, 10_000)), "").here == 20
    assert history.lookup(pack(range(20)), "").here == 0
    history.clear()
    assert history.num_tokens == 0
    assert history.lookup(pack([7] * 20), "").here == 0


def test_a_history_forgets_namespaces_that_are_gone_though_what_they_shared_is_not() -> None:
    cache = PrefixCache(50, 16)
    head = list(range(40))
    for tenant in range(30_000):
        namespace = f"tenant-{tenant}"
        with cache.acquire([*head, tenant % 7], namespace) as lease:
            lease.commit(lease.num_tokens)
    history = cache.store.history
    assert history is not None
    runs, entries = list(history.root.children.values()), 0
    while runs:
        run = runs.pop()
        entries += len(run.namespaces)
        runs += run.children.values()
    assert entries <= 3 * (1 << 16) // 4
    assert len(cache.store.tree.roots) <= cache.num_blocks
    assert not cache.store.live
    assert history.lookup(pack(head), "tenant-29999").here == 40
    assert history.lookup(pack(head), "tenant-0") == (0, 40, False)


def test_a_history_with_few_ends_holds_what_a_list_of_the_latest_would() -> None:
    rng = random.Random(4)
    history, limit = History(48), 12
    latest: dict[tuple[str, tuple[int, ...]], None] = {}
    for _ in range(3000):
        query = tuple(rng.choices([0, 1], k=rng.randint(1, 4)))
        namespace = rng.choice("abcdef")
        here = max((lcp(query, k) for name, k in latest if name == namespace), default=0)
        assert history.lookup(pack(query), namespace).here == here
        history.add(pack(query), namespace)
        for shorter in [k for k in latest if k[0] == namespace and query[: len(k[1])] == k[1]]:
            del latest[shorter]
        latest[namespace, query] = None
        while len(latest) > limit:
            del latest[next(iter(latest))]
        assert len(history._ends) == len(latest)
        assert history.num_tokens == len({k[:n] for _, k in latest for n in range(1, len(k) + 1)})


def test_a_conversation_stays_one_run() -> None:
    history = History(100_000)
    tokens: list[int] = []
    for turn in range(50):
        tokens += [turn] * 5
        history.add(pack(tokens), "")
    assert len(history.root.children) == 1
    assert len(history._ends) == 1
    ((run, _),) = history._ends
    assert run.parent is history.root
