"""Blocks from another engine's allocator: the cache takes and gives them, and keeps no free list."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest

from radixcache.cache.check import check_invariants
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.errors import OutOfBlocksError
from tests.cache.driver import OPERATIONS, Driver
from tests.cache.serving import computed, gauges, serve


class EngineAllocator:
    """An engine's free list: ids in any order, some of them taken by the engine itself."""

    def __init__(self, num_blocks: int, seed: int = 0) -> None:
        self.free_list = list(range(num_blocks))
        random.Random(seed).shuffle(self.free_list)
        self.lent: set[int] = set()

    @property
    def num_free(self) -> int:
        return len(self.free_list)

    def allocate(self, count: int) -> Sequence[int]:
        assert 0 < count <= len(self.free_list)
        taken, self.free_list = self.free_list[:count], self.free_list[count:]
        self.lent.update(taken)
        return taken

    def free(self, blocks: Sequence[int]) -> None:
        for block in blocks:
            self.lent.remove(block)
            self.free_list.append(block)


@pytest.fixture
def engine() -> EngineAllocator:
    return EngineAllocator(16)


@pytest.fixture
def cache(engine: EngineAllocator) -> Iterator[PrefixCache]:
    cache = PrefixCache(16, 4, allocator=engine)
    yield cache
    check_invariants(cache)


def test_what_is_cached_is_lent_and_what_is_evicted_given_back(
    cache: PrefixCache, engine: EngineAllocator
) -> None:
    order = engine.free_list[:]
    with computed(cache, range(14)) as lease:
        assert lease.block_table == order[:4]
    assert gauges(cache) == (12, 4, 0)
    assert engine.lent == set(order[:4])
    assert serve(cache, range(14)) == 13
    cache.evict(2)
    assert engine.num_free == 14
    cache.reset()
    assert not engine.lent


def test_the_engine_and_the_cache_take_from_one_pool(cache: PrefixCache, engine: EngineAllocator) -> None:
    serve(cache, range(32))
    mine = engine.allocate(6)
    engine.lent.difference_update(mine)
    assert gauges(cache) == (2, 8, 0)
    with cache.acquire(range(100, 140)) as lease:  # evicts all, as the engine has six
        assert not set(lease.block_table) & set(mine)
        assert gauges(cache) == (0, 0, 10)
        with pytest.raises(OutOfBlocksError):
            lease.extend(range(4))
        check_invariants(cache)
    assert cache.num_free_blocks == 10


class Driven(Driver):
    """The driver on an allocator that checks what it is given back."""

    def make_cache(self, policy: str) -> PrefixCache:
        self.engine = EngineAllocator(self.num_blocks)
        return PrefixCache(
            self.num_blocks,
            self.block_size,
            policy=policy,
            clock=lambda: self.now,
            allocator=self.engine,
        )

    def finish(self) -> None:
        super().finish()
        assert not self.engine.lent


@pytest.mark.parametrize(("num_blocks", "block_size", "longest"), [(9, 4, 20), (24, 1, 14), (6, 2, 12)])
@pytest.mark.parametrize("seed", range(3))
def test_soak(num_blocks: int, block_size: int, longest: int, seed: int) -> None:
    rng = random.Random(f"{num_blocks} {block_size} {seed}")
    driver = Driven(num_blocks, block_size)
    for _ in range(300):
        driver.step(
            rng.choice(OPERATIONS),
            rng.choices([0, 1], k=rng.randint(1, longest)),
            rng.choice(["", "b"]),
            rng.randrange(6),
            rng.randrange(7),
        )
        driver.sound()
    driver.finish()


class Broken(EngineAllocator):
    """Says that it has blocks, and gives something else."""

    def __init__(self, gives: Sequence[int]) -> None:
        super().__init__(16)
        self.gives = gives

    def allocate(self, count: int) -> Sequence[int]:
        self.lent.update(self.gives)
        return self.gives


@pytest.mark.parametrize(
    ("gives", "error"),
    [([3], OutOfBlocksError), ([3, 16], ValueError), ([5, 5], ValueError), ([-1, 2], ValueError)],
)
def test_an_allocator_that_breaks_its_word_fails_one_request(
    gives: list[int], error: type[Exception]
) -> None:
    engine = EngineAllocator(16)
    cache = PrefixCache(16, 4, allocator=engine)
    serve(cache, range(10))
    broken = Broken(gives)
    lease = computed(cache, range(4))
    supply, cache.store.allocator._supply = cache.store.allocator._supply, broken  # type: ignore[attr-defined]
    with pytest.raises(error):
        cache.acquire([*range(9), 90, 91, 92, 93, 94])
    with pytest.raises(error):
        lease.extend(range(8))
    cache.store.allocator._supply = supply  # type: ignore[attr-defined]
    lease.release()
    check_invariants(cache)
    assert cache.num_protected_blocks == 0
    assert serve(cache, [*range(10), 1]) == 10


@pytest.mark.parametrize("wrong", [5, "no", object()])
def test_what_is_no_allocator_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="allocator must have"):
        PrefixCache(16, 4, allocator=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sink must have"):
        PrefixCache(16, 4, sink=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="lower must have"):
        PrefixCache(16, 4, lower=wrong)  # type: ignore[arg-type]
