"""Retention, pins and events of the cache, through the engine."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from radixcache import Engine, EngineConfig, SamplingParams
from radixcache.cache.events import BlocksStored, CacheCleared, CacheEvent
from radixcache.cache.eviction import Retention
from radixcache.errors import TokenError
from tests import tiny_models
from tests.engine.conftest import MakeEngine
from tests.engine.letters import FIRST, lettered

ONE = SamplingParams(max_tokens=1, ignore_eos=True)
KEPT = list(range(3, 67))


def flood(engine: Engine, count: int = 12) -> None:
    """Compute more than the pool holds."""
    for at in range(count):
        engine.generate([10 + at, *(5 + (at * 31 + token * 7) % 120 for token in range(90))], ONE)


@pytest.fixture
def engine(make_engine: MakeEngine) -> Engine:
    return make_engine(cache_tokens=512)


def test_a_prompt_that_is_not_kept_is_evicted(engine: Engine) -> None:
    engine.generate(KEPT, ONE)
    flood(engine)
    assert engine.cache.match(KEPT) == 0


@pytest.mark.parametrize("how", ["generate", "stream", "chat"])
def test_a_range_of_a_prompt_is_kept_as_asked_for(how: str, engine: Engine) -> None:
    options: dict[str, Any] = {"retain": [Retention(end=40, priority=5)], "namespace": "tenant"}
    if how == "generate":
        engine.generate(KEPT, ONE, **options)
    elif how == "stream":
        list(engine.stream(KEPT, ONE, **options))
    else:
        with Engine(lettered(), EngineConfig(cache_tokens=512)) as speaking:
            chat = speaking.chat(params=ONE, **options)
            chat.send("".join(chr(FIRST + token) for token in KEPT))
            flood(speaking)
            assert speaking.cache.match(KEPT, "tenant") == 48
        return
    flood(engine)
    assert engine.cache.match(KEPT, "tenant") == 48  # whole blocks
    assert engine.cache.match(KEPT) == 0


def test_what_is_kept_for_a_time_goes_by_itself(engine: Engine) -> None:
    engine.generate(KEPT, ONE, retain=[Retention(priority=5, ttl=0.05)])
    time.sleep(0.1)
    flood(engine)
    assert engine.cache.match(KEPT) == 0


def test_a_pinned_prompt_stays_until_it_is_unpinned(engine: Engine) -> None:
    engine.generate(KEPT, ONE)
    pin = engine.pin([*KEPT, 99])
    assert pin.num_tokens == 64
    flood(engine)
    assert engine.cache.match([*KEPT, 99]) == 64
    engine.unpin(pin)
    flood(engine)
    assert engine.cache.match(KEPT) == 0
    engine.unpin(pin)


def test_a_pin_ends_by_itself(engine: Engine) -> None:
    engine.generate(KEPT, ONE)
    assert engine.pin(KEPT, ttl=0.05).num_tokens == 64
    time.sleep(0.1)
    flood(engine)
    assert engine.cache.match(KEPT) == 0


def test_bad_retention_is_refused_where_it_is_submitted(engine: Engine) -> None:
    overlapping = [Retention(end=9), Retention(start=5)]
    for retain in (overlapping, 5, ["x"]):
        with pytest.raises(ValueError, match="ranges"):
            engine.submit(KEPT, ONE, retain=retain)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="priority must be an integer"):
        engine.submit(KEPT, ONE, priority=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ttl"):
        engine.pin(KEPT, ttl=-1)
    with pytest.raises(ValueError, match="namespace"):
        engine.pin(KEPT, namespace=5)  # type: ignore[arg-type]
    with pytest.raises(TokenError):
        engine.pin(["x"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="pin must be"):
        engine.unpin(5)  # type: ignore[arg-type]
    assert engine.stats().waiting == 0


def test_events_come_in_order_and_outside_of_steps() -> None:
    heard: list[CacheEvent] = []
    threads: set[str] = set()

    def listen(event: CacheEvent) -> None:
        heard.append(event)
        threads.add(threading.current_thread().name)
        engine.stats()  # a listener may call the engine
        if len(heard) == 1:
            raise SystemExit("a listener that is broken once")

    with Engine(tiny_models.tiny("llama"), EngineConfig(cache_tokens=512), on_event=listen) as engine:
        engine.generate(KEPT, ONE)
        deadline = time.monotonic() + 30
        while not heard:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        engine.reset_cache()
        engine.generate(KEPT, ONE)
        assert sum(len(event.digests) for event in engine.cache.snapshot().stored) == 4
    stored = [event for event in heard if isinstance(event, BlocksStored)]
    assert sum(len(event.digests) for event in stored) == 8
    assert sum(isinstance(event, CacheCleared) for event in heard) == 2  # by reset, and at the end
    epochs = {event.epoch: [one.sequence for one in heard if one.epoch == event.epoch] for event in heard}
    assert all(numbers == list(range(len(numbers))) for numbers in epochs.values())
    assert threads == {"radixcache-events"}


def test_a_slow_listener_delays_no_request() -> None:
    released = threading.Event()
    engine = Engine(
        tiny_models.tiny("llama"), EngineConfig(cache_tokens=512), on_event=lambda _event: released.wait(60)
    )
    for _ in range(3):
        assert len(engine.generate(KEPT, ONE)) == 1
    released.set()
    engine.close()


def test_a_listener_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(ValueError, match="on_event must be callable, got 5"):
        Engine(tiny_models.tiny("llama"), EngineConfig(cache_tokens=512), on_event=5)  # type: ignore[arg-type]


def test_the_view_of_the_cache_outlives_the_engine(engine: Engine) -> None:
    engine.generate(KEPT, ONE)
    assert engine.cache.match(KEPT) == 63
    assert (engine.cache.num_blocks, engine.cache.block_size) == (32, 16)
    assert engine.cache.capacity_tokens == engine.capacity_tokens == 512
    with Engine(tiny_models.tiny("llama"), EngineConfig(cache_tokens=512)) as other:
        other.generate(KEPT, ONE)
    assert other.cache.stats().free_blocks == 32
    assert other.cache.match(KEPT) == 0
