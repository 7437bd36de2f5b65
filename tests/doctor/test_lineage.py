"""The lineage answers as `History` does, and names the request that a prompt followed furthest."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from radixcache.cache.history import History
from radixcache.doctor.lineage import NOBODY, Lineage
from radixcache.tokens import pack
from tests.naive import lcp

prompts = st.lists(
    st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=9), st.sampled_from(["", "b"])),
    min_size=1,
    max_size=24,
)


@settings(max_examples=100, deadline=None)
@given(prompts)
def test_it_agrees_with_history_and_with_a_list_of_prompts(log: list[tuple[list[int], str]]) -> None:
    history, lineage = History(10_000), Lineage(10_000, 10_000)
    for index, (tokens, namespace) in enumerate(log):
        packed = pack(tokens)
        seen = lineage.lookup(packed, namespace)
        assert seen == history.lookup(packed, namespace)
        assert lineage.found is not None
        before = log[:index]
        best = max((lcp(tokens, other) for other, place in before if place == namespace), default=0)
        partner = lineage.found.here
        if best:
            assert partner != NOBODY
            assert lcp(tokens, log[partner][0]) >= best
            assert len(log[partner][0]) > best or not seen.continues
        elif index:
            assert partner == index - 1  # nothing in common: the request before stands for what was there
        lineage.entering, lineage.entering_cached = index, best
        for memory in (history, lineage):
            memory.add(packed, namespace)
        assert lineage.num_tokens == history.num_tokens
    assert all(s.reused * 4 <= s.requests * len(s.edge) for s in everything(lineage))
    assert sum(stretch.reused for stretch in everything(lineage)) == sum(
        max((lcp(tokens, other) for other, place in log[:i] if place == namespace), default=0)
        for i, (tokens, namespace) in enumerate(log)
    )


def everything(lineage: Lineage) -> list:  # type: ignore[type-arg]
    found, waiting = [], [lineage.root]
    while waiting:
        stretch = waiting.pop()
        found.append(stretch)
        waiting += stretch.children.values()
    return found


def test_memory_is_bounded_in_tokens_and_in_ends() -> None:
    by_tokens, by_ends = Lineage(100, 10_000), Lineage(10_000, 5)
    for start in range(200):
        tokens = pack([7, *range(start * 10, start * 10 + 10)])
        for lineage in (by_tokens, by_ends):
            lineage.add(tokens, "")
    assert by_tokens.num_tokens <= 100
    assert len(everything(by_ends)) <= 7
    assert by_ends.lookup(pack([7, *range(1990, 2000)]), "").here == 11
    assert by_ends.lookup(pack([7, 0, 1]), "").here == 1


def test_memory_of_namespaces_is_bounded_though_what_they_share_is_never_forgotten() -> None:
    lineage = Lineage(10_000, 50)
    head = [7] * 20
    for number in range(5000):
        tokens = pack([*head, number % 60])
        lineage.lookup(tokens, f"tenant-{number}")
        lineage.add(tokens, f"tenant-{number}")
        if not number % 3:
            lineage.add(pack(head), f"tenant-{number}")
    assert sum(len(stretch.namespaces) for stretch in everything(lineage)) <= 3 * 50
    assert lineage.lookup(pack(head), "tenant-4999").here == 20
    assert lineage.lookup(pack(head), "tenant-4") == (0, 20, False)


@settings(max_examples=100, deadline=None)
@given(prompts)
def test_a_stretch_counts_the_children_and_ends_of_its_namespaces(
    log: list[tuple[list[int], str]],
) -> None:
    lineage = Lineage(20, 4)
    for tokens, namespace in log:
        lineage.add(pack(tokens), namespace)
        for stretch in everything(lineage):
            for name in ("", "b"):
                children = sum(name in child.namespaces for child in stretch.children.values())
                holders = children + ((stretch, name) in lineage._ends)
                assert stretch is lineage.root or stretch.namespaces.get(name, 0) == holders
