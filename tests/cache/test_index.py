"""`PrefixIndex` against a naive dict, and fed by the events of caches."""

from __future__ import annotations

import random

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from radixcache.cache.digest import block_digests, namespace_digest
from radixcache.cache.events import BlocksStored, CacheEvent
from radixcache.cache.index import PrefixIndex
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.errors import TokenError
from radixcache.tokens import pack
from tests.cache.serving import serve

SIZE = 2
HOLDERS = ("a", 7, ("c", 1))
Prefix = tuple[str, tuple[int, ...]]


class Naive:
    """Every prefix of whole blocks that each holder has."""

    def __init__(self) -> None:
        self.held: dict[object, set[Prefix]] = {}

    def prefixes(self, tokens: list[int], namespace: str) -> list[Prefix]:
        return [(namespace, tuple(tokens[:stop])) for stop in range(SIZE, len(tokens) + 1, SIZE)]

    def insert(self, holder: object, tokens: list[int], namespace: str) -> None:
        self.held.setdefault(holder, set()).update(self.prefixes(tokens, namespace))

    def remove(self, holder: object, tokens: list[int], namespace: str) -> None:
        whole = tuple(tokens[: len(tokens) // SIZE * SIZE])
        if whole:
            self.held[holder] = {
                (name, prefix)
                for name, prefix in self.held.get(holder, ())
                if name != namespace or prefix[: len(whole)] != whole
            }

    def match(self, tokens: list[int], namespace: str) -> dict[object, int]:
        found = {
            holder: max(
                (len(p) for n, p in self.prefixes(tokens, namespace) if (n, p) in prefixes), default=0
            )
            for holder, prefixes in self.held.items()
        }
        return {holder: count for holder, count in found.items() if count}

    def num_blocks(self) -> int:
        return len(set().union(*self.held.values()))


def check(index: PrefixIndex[object], naive: Naive) -> None:
    assert index.num_blocks == naive.num_blocks()
    assert set(index.holders) == {holder for holder, held in naive.held.items() if held}
    tree, parts = index._tree, index._parts
    nodes = [node for root in tree.roots.values() for node in root.children or ()]
    seen: set[bytes] = set()
    for node in nodes:
        nodes += node.children or ()
        assert node.digests is not None
        assert all(index._nodes[digest] is node for digest in node.digests)
        seen.update(node.digests)
        counts = parts.counts[node]
        assert max(counts.values()) == node.num_blocks or (node.children and counts)
        assert min(counts.values()) > 0
        assert all(node in parts.held[holder] for holder in counts)
    assert seen == set(index._nodes)
    assert set(parts.counts) == set(nodes)


OPERATIONS = st.sampled_from(["insert", "insert", "insert", "remove", "digest", "drop", "match", "match"])
STEPS = st.lists(
    st.tuples(
        OPERATIONS,
        st.sampled_from(HOLDERS),
        st.lists(st.integers(0, 1), max_size=11),
        st.sampled_from(["", "n"]),
    ),
    max_size=60,
)


@settings(max_examples=120, deadline=None)
@given(STEPS)
def test_it_answers_as_a_dict_does(steps: list[tuple[str, object, list[int], str]]) -> None:
    index: PrefixIndex[object] = PrefixIndex(SIZE)
    naive = Naive()
    for operation, holder, tokens, namespace in steps:
        if operation == "insert":
            index.insert(holder, tokens, namespace)
            naive.insert(holder, tokens, namespace)
        elif operation == "remove":
            index.remove(holder, tokens, namespace)
            naive.remove(holder, tokens, namespace)
        elif operation == "digest":
            digests = block_digests(
                namespace_digest(namespace), pack(tokens[: len(tokens) // 2 * 2]), 4 * SIZE
            )
            index.remove_digests(holder, digests[-1:])
            naive.remove(holder, tokens, namespace)
        elif operation == "drop":
            index.drop(holder)
            naive.held.pop(holder, None)
        assert index.match(tokens, namespace) == naive.match(tokens, namespace)
        check(index, naive)


def test_what_was_inserted_longest_ago_is_forgotten_first() -> None:
    index: PrefixIndex[str] = PrefixIndex(4, max_blocks=6)
    index.insert("a", range(12))
    index.insert("b", range(100, 108))
    index.insert("a", range(12))
    index.insert("b", range(200, 208))  # the second prompt's tail has to leave
    assert index.num_blocks == 6
    assert index.match(range(12)) == {"a": 12}
    assert index.match(range(100, 108)) == {"b": 4}
    assert index.match(range(200, 208)) == {"b": 8}
    index.insert("c", range(300, 340))  # longer than the index: its head
    assert index.match(range(300, 340)) == {"c": 24}
    assert index.holders == ["c"]


def test_a_bounded_index_never_says_too_much() -> None:
    rng = random.Random(4)
    index: PrefixIndex[int] = PrefixIndex(SIZE, max_blocks=12)
    naive = Naive()
    for _ in range(600):
        tokens = rng.choices([0, 1], k=rng.randint(0, 30))
        holder = rng.randrange(3)
        if rng.random() < 0.7:
            index.insert(holder, tokens)
            naive.insert(holder, tokens, "")
            assert index.match(tokens).get(holder, 0) == min(len(tokens) // SIZE, 12) * SIZE
        else:
            index.remove(holder, tokens)
            naive.remove(holder, tokens, "")
        assert index.num_blocks <= 12
        query = rng.choices([0, 1], k=20)
        truth = naive.match(query, "")
        assert all(count <= truth[known] for known, count in index.match(query).items())
    for holder in range(3):
        index.drop(holder)
    assert index.num_blocks == 0
    assert not index._nodes
    assert not index._tree.roots


def test_bad_arguments_are_refused() -> None:
    for sizes in ({"block_size": 0}, {"max_blocks": 0}, {"block_size": "4"}):
        with pytest.raises(ValueError, match="must be"):
            PrefixIndex(**sizes)  # type: ignore[arg-type]
    index: PrefixIndex[str] = PrefixIndex(4)
    with pytest.raises(TokenError):
        index.insert("a", [-1])
    with pytest.raises(ValueError, match="namespace must be"):
        index.match([1], None)  # type: ignore[arg-type]
    assert index.num_blocks == 0


class Replica:
    """A cache that serves at random, and the events that it sent."""

    def __init__(self, name: str, seed: int, block_size: int = 4) -> None:
        self.name = name
        self.rng = random.Random(seed)
        self.sent: list[CacheEvent] = []
        self.cache = PrefixCache(24, block_size, on_event=self.sent.append)

    def work(self, requests: int) -> None:
        for _ in range(requests):
            prompt = self.rng.choices([0, 0, 0, 1], k=self.rng.randint(1, 40))
            serve(self.cache, prompt, namespace=self.rng.choice(["", "x"]))
            if self.rng.random() < 0.02:
                self.cache.reset()

    def held(self, tokens: list[int], namespace: str) -> int:
        return self.cache.match([*tokens, 99], namespace) // 4 * 4


def test_an_index_fed_by_events_says_what_each_cache_holds() -> None:
    rng = random.Random(8)
    index: PrefixIndex[str] = PrefixIndex(4)
    replicas = [Replica(name, seed) for seed, name in enumerate("abc")]
    for _ in range(60):
        replica = rng.choice(replicas)
        replica.work(rng.randint(1, 6))
        assert all(index.apply(replica.name, event) for event in replica.sent)
        replica.sent.clear()
        for _ in range(10):
            tokens, namespace = rng.choices([0, 0, 0, 1], k=40), rng.choice(["", "x"])
            held = {one.name: one.held(tokens, namespace) for one in replicas}
            assert index.match(tokens, namespace) == {name: count for name, count in held.items() if count}


@pytest.mark.parametrize("seed", range(5))
def test_a_late_listener_with_a_snapshot_knows_what_one_knows_who_heard_all(seed: int) -> None:
    replica = Replica("r", seed)
    early: PrefixIndex[str] = PrefixIndex(4)
    late: PrefixIndex[str] = PrefixIndex(4)
    replica.work(30)
    sent = replica.sent[:]
    assert late.apply("r", sent[-1]) == (sent[-1].sequence == 0)  # else the ones before are missing
    late.restore("r", replica.cache.snapshot())
    replica.work(10)
    assert all(late.apply("r", event) for event in replica.sent)  # known ones come again, and are passed over
    replica.work(5)
    if replica.sent[-1].sequence:
        assert not late.apply("r", type(replica.sent[-1])(**_later(replica.sent[-1])))
    assert all(early.apply("r", event) for event in replica.sent)
    assert all(late.apply("r", event) for event in replica.sent)
    rng = random.Random(seed)
    for _ in range(200):
        tokens, namespace = rng.choices([0, 0, 0, 1], k=40), rng.choice(["", "x"])
        assert late.match(tokens, namespace) == early.match(tokens, namespace)
    assert late.num_blocks == early.num_blocks


def _later(event: CacheEvent) -> dict[str, object]:
    fields = {name: getattr(event, name) for name in event.__slots__}
    return fields | {"sequence": event.sequence + 100}


def test_events_of_other_blocks_are_refused() -> None:
    replica = Replica("r", 1, block_size=8)
    serve(replica.cache, range(16))
    index: PrefixIndex[str] = PrefixIndex(4)
    with pytest.raises(ValueError, match="block_size must be 4, as in the index, got 8"):
        index.apply("r", replica.sent[0])
    with pytest.raises(ValueError, match="got 8"):
        index.restore("r", replica.cache.snapshot())
    assert index.num_blocks == 0


def test_what_follows_a_forgotten_block_is_forgotten() -> None:
    index: PrefixIndex[str] = PrefixIndex(4, max_blocks=2)
    replica = Replica("r", 1)
    lease = replica.cache.acquire(range(16))
    for stop in (4, 8, 12, 16):
        lease.commit(stop)
    assert all(index.apply("r", event) for event in replica.sent)
    assert index.match(range(16)) == {"r": 8}
    assert isinstance(replica.sent[-1], BlocksStored)
    lease.release()
