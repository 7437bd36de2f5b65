"""Draining blocks: evicted ones that a sink copies out before they are free."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

import pytest

from radixcache.cache.blocks import block_ids
from radixcache.cache.check import check_invariants
from radixcache.cache.digest import block_digests, namespace_digest
from radixcache.cache.draining import EvictedBlocks
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.errors import OutOfBlocksError
from radixcache.tokens import pack, unpack
from tests.cache.serving import computed, serve


class Sink:
    """Holds what it is offered at leisure, and gives up what it is told to."""

    def __init__(self) -> None:
        self.offers: list[tuple[EvictedBlocks, bool]] = []
        self.held: list[int] = []
        self.giving = 0

    def offer(self, evicted: EvictedBlocks, *, urgent: bool) -> Iterable[int]:
        self.offers.append((evicted, urgent))
        if urgent:
            return evicted.blocks  # must be ignored
        self.held += evicted.blocks
        return evicted.blocks

    def reclaim(self, num_blocks: int) -> Iterable[int]:
        given = self.held[: min(num_blocks, self.giving)]
        del self.held[: len(given)]
        return given


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def cache(sink: Sink) -> Iterator[PrefixCache]:
    cache = PrefixCache(8, 4, sink=sink)
    yield cache
    check_invariants(cache)


def pool(cache: PrefixCache) -> tuple[int, int, int, int]:
    stats = cache.stats()
    found = (stats.free_blocks, stats.evictable_blocks, stats.protected_blocks, stats.draining_blocks)
    assert sum(found) == stats.num_blocks
    return found


def test_an_offer_says_what_the_blocks_are(cache: PrefixCache, sink: Sink) -> None:
    with cache.acquire(range(14), "n") as lease:
        lease.commit(14)
        table = list(lease.block_table)
    serve(cache, [*range(4), 50, 51, 52, 53], namespace="n")
    cache.evict(2)  # the partial tail, which is not offered, and one block more
    digests = block_digests(namespace_digest("n"), pack(range(12)), 16)
    expected = EvictedBlocks("n", digests[1], (digests[2],), pack(range(8, 12)), (table[2],))
    assert sink.offers == [(expected, False)]
    cache.evict(2)
    branch = block_digests(digests[0], pack([50, 51, 52, 53]), 16)
    assert [(one.parent, one.digests) for one, _ in sink.offers[1:]] == [
        (digests[0], (digests[1],)),
        (digests[0], tuple(branch)),
    ]
    cache.evict(1)
    assert sink.offers[-1][0] == EvictedBlocks(
        "n", namespace_digest("n"), (digests[0],), pack(range(4)), (table[0],)
    )


def test_held_blocks_drain_until_they_are_said_to_be_copied(cache: PrefixCache, sink: Sink) -> None:
    serve(cache, range(16))
    assert pool(cache) == (4, 4, 0, 0)
    assert cache.evict(3) == 3
    assert pool(cache) == (4, 1, 0, 3)
    check_invariants(cache)
    assert cache.match([*range(16), 1]) == 4
    with cache.acquire(range(100, 120)) as lease:  # five: four free ones and the one still published
        assert not set(lease.block_table) & set(sink.held)
        assert pool(cache) == (0, 0, 5, 3)
        check_invariants(cache)
    cache.drained(sink.held[:2])
    assert pool(cache) == (7, 0, 0, 1)
    cache.drained(sink.held[2:])
    assert pool(cache) == (8, 0, 0, 0)


def test_a_request_in_need_gets_its_blocks_at_once(cache: PrefixCache, sink: Sink) -> None:
    serve(cache, range(32))
    with cache.acquire(range(100, 132)):
        assert [urgent for _, urgent in sink.offers] == [True]
        assert len(sink.offers[0][0].blocks) == 8
        assert pool(cache) == (0, 0, 8, 0)
    serve(cache, range(200, 220))
    with computed(cache, range(300, 308)) as lease:
        sink.offers.clear()
        lease.extend(range(24))
        assert all(urgent for _, urgent in sink.offers)
        assert cache.num_draining_blocks == 0


def test_draining_blocks_are_reclaimed_before_a_request_is_refused(cache: PrefixCache, sink: Sink) -> None:
    serve(cache, range(32))
    cache.evict(6)
    sink.giving = 3
    with cache.acquire(range(100, 120)) as lease:  # five, two of them evictable
        assert pool(cache) == (0, 0, 5, 3)
        sink.giving = 1
        lease.extend(range(4))
        assert pool(cache) == (0, 0, 6, 2)
        sink.giving = 0
        with pytest.raises(
            OutOfBlocksError, match="1 KV blocks needed, 0 free or evictable, 2 draining"
        ) as caught:
            lease.extend(range(4))
        assert caught.value.draining == 2
        assert lease.num_tokens == 24
        with pytest.raises(OutOfBlocksError) as caught:
            cache.acquire(range(4))
        assert (caught.value.needed, caught.value.available, caught.value.draining) == (1, 0, 2)


def test_a_reset_leaves_alone_what_is_being_copied(cache: PrefixCache, sink: Sink) -> None:
    serve(cache, range(24))
    cache.evict(4)
    cache.reset()
    assert pool(cache) == (4, 0, 0, 4)
    check_invariants(cache)
    with cache.acquire(range(16)) as lease:
        assert not set(lease.block_table) & set(sink.held)
    cache.drained(sink.held)
    assert pool(cache) == (8, 0, 0, 0)
    with cache.acquire(range(32)):
        pass


@pytest.mark.parametrize("wrong", [[0], [7, 7], [99], ["a"], [None]])
def test_only_what_drains_is_drained(cache: PrefixCache, sink: Sink, wrong: list[int]) -> None:
    serve(cache, range(32))
    cache.evict(1)  # block 7
    assert sink.held == [7]
    with pytest.raises(ValueError, match=r"not draining|named once each"):
        cache.drained(wrong)
    assert pool(cache) == (0, 7, 0, 1)
    cache.drained([7])
    with pytest.raises(ValueError, match="block 7 is not draining"):
        cache.drained([7])


class Faulty(Sink):
    """Fails in one way at every call."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def offer(self, evicted: EvictedBlocks, *, urgent: bool) -> Iterable[int]:
        if self.answer is None:
            raise OSError("the disk is gone")
        return self.answer  # type: ignore[return-value]

    reclaim = offer  # type: ignore[assignment]


@pytest.mark.parametrize("answer", [None, 5, [99], [[1]], "ab", [None]])
def test_a_sink_that_fails_loses_nothing_and_harms_no_request(
    answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    cache = PrefixCache(8, 4, sink=Faulty(answer))
    serve(cache, range(24))
    with caplog.at_level(logging.WARNING):
        assert cache.evict(2) == 2
        with cache.acquire(range(100, 132)):
            check_invariants(cache)
    assert pool(cache) == (8, 0, 0, 0)
    assert cache.stats().sink_errors == 2
    assert "eviction sink failed" in caplog.text


def test_a_sink_takes_what_it_wants(cache: PrefixCache) -> None:
    class Choosy(Sink):
        def offer(self, evicted: EvictedBlocks, *, urgent: bool) -> Iterable[int]:
            self.held += evicted.blocks[1:2]
            return evicted.blocks[1:2]

    sink = Choosy()
    cache = PrefixCache(8, 4, sink=sink)
    serve(cache, range(16))
    cache.evict(3)
    assert pool(cache) == (6, 1, 0, 1)
    check_invariants(cache)
    cache.drained(sink.held)


def test_every_whole_block_is_offered_once_with_its_own_tokens() -> None:
    """Long edges are cut before they shrink, and nodes lose blocks a few at a time."""
    sink = Sink()
    cache = PrefixCache(8000, 4, sink=sink)
    serve(cache, range(30_000))
    serve(cache, [*range(20_000), *range(50_000, 50_010)])
    expected = {}
    for prompt in (range(30_000), [*range(20_000), *range(50_000, 50_008)]):
        digests = block_digests(namespace_digest(""), pack(prompt), 16)
        expected |= {digest: list(prompt[at * 4 : at * 4 + 4]) for at, digest in enumerate(digests)}
    while cache.evict(700):
        pass
    found = {}
    for offer, _ in sink.offers:
        assert len(offer.blocks) == len(offer.digests) == len(offer.tokens) // 16
        assert list(offer.digests) == block_digests(offer.parent, offer.tokens, 16)
        tokens = unpack(offer.tokens)
        for at, digest in enumerate(offer.digests):
            assert digest not in found
            found[digest] = tokens[at * 4 : at * 4 + 4]
    assert found == expected
    assert len(set(sink.held)) == len(sink.held) == cache.num_draining_blocks == len(expected)
    assert set(block_ids(b"".join(b.to_bytes(4, "little") for b in sink.held))) == cache.store.draining.blocks
