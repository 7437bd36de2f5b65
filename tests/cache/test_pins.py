"""Pins: what must stay stays, until a request needs the room."""

from __future__ import annotations

import pytest

from radixcache.cache.check import check_invariants
from radixcache.cache.eviction import Pin, Retention
from radixcache.cache.prefix_cache import PrefixCache
from tests.cache.serving import serve


@pytest.fixture
def cache() -> PrefixCache:
    return PrefixCache(16, 4)


def test_pins_survive_evict_all(cache: PrefixCache) -> None:
    serve(cache, range(24))
    pin = cache.pin(range(10))
    assert pin.num_tokens == 8
    assert cache.evict(100) == 4
    assert cache.match([*range(24), 0]) == 8
    assert cache.num_evictable_blocks == 2
    cache.unpin(pin)
    assert cache.evict(100) == 2
    check_invariants(cache)


def test_pins_nest(cache: PrefixCache) -> None:
    serve(cache, range(16))
    inner, outer = cache.pin(range(8)), cache.pin(range(16))
    again = cache.pin(range(8))
    cache.unpin(outer)
    assert cache.evict(100) == 2
    cache.unpin(inner)
    assert cache.evict(100) == 0
    cache.unpin(again)
    assert cache.evict(100) == 2
    check_invariants(cache)


def test_an_unknown_pin_is_harmless(cache: PrefixCache) -> None:
    serve(cache, range(8))
    nothing = cache.pin([7, 7, 7, 7, 7])
    assert nothing.num_tokens == 0
    cache.unpin(nothing)
    cache.unpin(Pin(1))
    pin = cache.pin(range(8))
    cache.unpin(pin)
    cache.unpin(pin)
    assert cache.pin(range(8), namespace="new").num_tokens == 0
    assert cache.pin([]).num_tokens == 0
    assert set(cache.store.tree.roots) == {""}
    assert cache.evict(100) == 2


def test_pins_are_cleared_by_reset(cache: PrefixCache) -> None:
    serve(cache, range(8))
    pin = cache.pin(range(8))
    cache.reset()
    assert not cache.store.queue.pinned()
    serve(cache, range(8))
    assert cache.evict(100) == 2
    cache.unpin(pin)
    check_invariants(cache)


def test_pinned_blocks_give_way_last_rather_than_fail_to_serve(cache: PrefixCache) -> None:
    serve(cache, range(16))
    cache.pin(range(16))
    serve(cache, range(100, 132))
    with cache.acquire(range(200, 248)):  # 12 blocks: all 8 others go, and none that is pinned
        assert cache.match([*range(16), 0]) == 16
        check_invariants(cache)
    with cache.acquire(range(300, 352)):  # 13 blocks
        assert cache.match([*range(16), 0]) == 12
        check_invariants(cache)
    with cache.acquire(range(400, 464)):
        assert cache.match([*range(16), 0]) == 0
        assert not cache.store.queue.pinned()


def test_a_pin_holds_what_a_later_request_splits(cache: PrefixCache) -> None:
    serve(cache, range(16))
    pin = cache.pin(range(16))
    serve(cache, [*range(8), 90, 91, 92, 93])
    assert len(pin.nodes) == 2
    assert cache.evict(100) == 1
    cache.unpin(pin)
    assert not cache.store.queue.pinned()
    assert cache.evict(100) == 4


def test_a_pin_on_what_already_waits_to_leave(cache: PrefixCache) -> None:
    serve(cache, range(8))
    serve(cache, range(100, 108))
    pin = cache.pin(range(8))
    assert cache.evict(2) == 2  # the older one, pinned, was first in line
    assert cache.match([*range(8), 0]) == 8
    for _ in range(300):
        cache.unpin(pin)
        pin = cache.pin(range(8))
    assert len(cache.store.queue._late) + len(cache.store.queue._early) < 80
    cache.unpin(pin)
    assert cache.evict(100) == 2


def test_a_pin_taken_off_returns_to_the_order_of_use(cache: PrefixCache) -> None:
    serve(cache, range(8))
    pin = cache.pin(range(8))
    assert cache.evict(1) == 0  # it is set aside as pinned
    serve(cache, range(100, 108))
    cache.unpin(pin)
    assert cache.evict(2) == 2
    assert cache.match([*range(8), 0]) == 0
    assert cache.match([*range(100, 108), 0]) == 8


def test_time_to_live_turns_a_pin_into_the_first_to_leave() -> None:
    now = 0.0
    cache = PrefixCache(16, 4, clock=lambda: now)
    serve(cache, range(8))
    serve(cache, range(100, 108))
    cache.retain(range(100, 108), [Retention(priority=1, ttl=5.0)])
    now = 4.0
    cache.evict(1)
    assert cache.match([*range(8), 0]) == 4
    now = 5.0
    cache.evict(1)
    assert cache.match([*range(100, 108), 0]) == 4
    assert cache.match([*range(8), 0]) == 4


def test_a_pin_that_covers_nothing_any_more_waits_for_no_time() -> None:
    day = 86_400.0
    cache = PrefixCache(16, 4)
    for start in range(0, 4000, 8):
        serve(cache, range(start, start + 8))
        cache.retain(range(start, start + 8), [Retention(priority=1, ttl=day)])
    assert cache.store.tree.queue.num_waiting() <= 8  # no more than have blocks
    (pin,) = cache.retain(range(3992, 4000), [Retention(priority=2, ttl=day)])
    before = cache.store.tree.queue.num_waiting()
    cache.unpin(pin)
    cache.unpin(pin)
    assert cache.store.tree.queue.num_waiting() == before - 1
    serve(cache, range(5000, 5064))  # needs every block
    assert cache.store.tree.queue.num_waiting() == 0
    check_invariants(cache)


def test_pins_run_out_in_the_order_of_their_times_whatever_order_they_came_in() -> None:
    now = 0.0
    cache = PrefixCache(40, 4, clock=lambda: now)
    lives = (30.0, 10.0, 20.0, 10.0)
    for place, life in enumerate(lives):
        serve(cache, range(100 * place, 100 * place + 4))
        cache.retain(range(100 * place, 100 * place + 4), [Retention(priority=1, ttl=life)])
    serve(cache, range(900, 904))
    for now, left in ((5.0, 4), (10.0, 2), (20.0, 1), (30.0, 0)):  # noqa: B007 - the clock reads it
        cache.evict(0)
        cache.store.tree.queue.pop(spare_pinned=True)
        assert cache.store.tree.queue.num_waiting() == left


def test_expired_pins_are_let_go_and_cost_no_later_request_anything() -> None:
    now = 0.0
    cache = PrefixCache(40, 4, clock=lambda: now)
    prompt = range(32)
    for number in range(500):
        now += 1.0
        serve(cache, prompt)
        cache.retain(prompt, [Retention(priority=1, ttl=5.0)])
        if number % 2:
            serve(cache, range(1000 + 40 * number, 1032 + 40 * number))
        assert sum(map(len, cache.store.queue.pinned().values())) <= 2 * 6
        assert cache.store.queue.num_waiting() <= 5
        check_invariants(cache)


def test_expired_pins_are_let_go_even_if_nothing_is_ever_evicted() -> None:
    now = 0.0
    cache = PrefixCache(40, 4, clock=lambda: now)
    serve(cache, range(8))
    for _ in range(100):
        now += 1.0
        cache.retain(range(8), [Retention(priority=1, ttl=2.0)])
    assert sum(map(len, cache.store.queue.pinned().values())) <= 3


def test_what_a_live_pin_covers_stays_when_another_expires() -> None:
    now = 0.0
    cache = PrefixCache(16, 4, clock=lambda: now)
    serve(cache, range(8))
    cache.retain(range(8), [Retention(priority=3, ttl=5.0)])
    lasting = cache.pin(range(8))
    now = 6.0
    assert cache.evict(100) == 0
    cache.unpin(lasting)
    serve(cache, range(100, 108))
    assert cache.evict(2) == 2  # what has expired leaves first, though it is not the oldest
    assert cache.match([*range(100, 108), 0]) == 8


def test_an_expired_pin_may_be_taken_off_and_a_node_that_it_covered_may_be_split() -> None:
    now = 0.0
    cache = PrefixCache(16, 4, clock=lambda: now)
    serve(cache, range(16))
    (pin,) = cache.retain(range(16), [Retention(priority=1, ttl=1.0)])
    now = 2.0
    cache.evict(0)
    serve(cache, range(100, 108))
    assert cache.evict(1) == 1
    cache.unpin(pin)
    serve(cache, [*range(8), 90, 91, 92, 93])  # splits it: both halves are marked
    assert cache.evict(1) == 1
    assert cache.match([*range(16), 0]) == 8
    check_invariants(cache)


@pytest.mark.parametrize("pin", [None, 5, "a"])
def test_what_is_no_pin_cannot_be_taken_off(pin: object, cache: PrefixCache) -> None:
    with pytest.raises(ValueError, match="pin must be"):
        cache.unpin(pin)  # type: ignore[arg-type]


def test_a_pin_of_another_cache_is_refused_and_stays(cache: PrefixCache) -> None:
    other = PrefixCache(16, 4)
    serve(other, range(8))
    pin = other.pin(range(8))
    with pytest.raises(ValueError, match="another cache"):
        cache.unpin(pin)
    assert other.evict(100) == 0
    other.unpin(pin)
    assert other.evict(100) == 2


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"start": 1.5}, "start"),
        ({"start": None}, "start"),
        ({"end": "a"}, "end"),
        ({"end": 2.0}, "end"),
        ({"priority": "high"}, "priority"),
        ({"priority": float("nan")}, "priority"),
        ({"priority": 1.5}, "priority"),
        ({"priority": True}, "priority"),
        ({"ttl": "5"}, "ttl"),
        ({"ttl": float("nan")}, "ttl"),
        ({"ttl": True}, "ttl"),
    ],
)
def test_a_retention_of_the_wrong_type_names_the_field(settings: dict[str, object], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        Retention(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("ranges", [None, 5, [5], Retention()])
def test_ranges_that_are_none_are_refused(ranges: object, cache: PrefixCache) -> None:
    with pytest.raises(ValueError, match="ranges must be"):
        cache.retain([1], ranges)  # type: ignore[arg-type]
