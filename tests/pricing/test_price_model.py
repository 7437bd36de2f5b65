"""The bill against plain dictionaries of prefixes, and against the cache itself."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixcache.cache.prefix_cache import PrefixCache
from radixcache.pricing import Prices, PriceTable, SelfHosted, price_log
from radixcache.tokens import unpack
from radixcache.workload.workload import Workload
from tests.pricing.tables import table
from tests.simulate.workloads import call

PROMPTS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 1), max_size=12),
        st.sampled_from(["", "b"]),
        st.integers(0, 40),
        st.lists(st.integers(1, 4), max_size=8),
    ),
    min_size=1,
    max_size=14,
)
TABLES = st.builds(
    lambda minimum, granularity, lifetime, refreshed, write, marks, lookback, marking: table(
        minimum=minimum,
        granularity=granularity,
        lifetime_s=lifetime,
        refreshed=refreshed,
        prices=Prices(10.0, 1.0, write, 100.0),
        max_breakpoints=marks,
        lookback=lookback,
        marking=marking,
    ),
    st.integers(1, 6),
    st.integers(1, 4),
    st.sampled_from([None, 5.0, 20.0]),
    st.booleans(),
    st.sampled_from([None, 12.5]),
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from(["automatic", "breakpoints"]),
)


def build(drawn: list[tuple[list[int], str, int, list[int]]]) -> tuple[Workload, list[list[int]]]:
    """Requests at ascending times, and ends of messages within each prompt."""
    clock = list(accumulate(gap for _, _, gap, _ in drawn))
    calls = [
        call(prompt, namespace=namespace, timestamp=float(time), output=[1] * (len(prompt) % 3))
        for (prompt, namespace, _, _), time in zip(drawn, clock, strict=True)
    ]
    ends = [[e for e in accumulate(steps) if e <= len(prompt)] for prompt, _, _, steps in drawn]
    return Workload(1, calls), ends


def naive(log: Workload, ends: list[list[int]] | None, priced: PriceTable) -> list[tuple[int, int]]:
    """Tokens read and written, a request, with a dictionary of every prefix that is kept."""
    kept: dict[tuple[str, tuple[int, ...]], float] = {}
    lifetime = math.inf if priced.lifetime_s is None else priced.lifetime_s
    found = []
    for index, request in enumerate(log.calls):
        prompt = tuple(unpack(request.units))
        now = request.timestamp or 0.0
        steps = range(priced.granularity, len(prompt) + 1, priced.granularity)
        if len(prompt) < priced.minimum:
            found.append((0, 0))
            continue

        def alive(end: int) -> bool:
            since = kept.get((request.namespace, prompt[:end]))  # noqa: B023
            return since is not None and now - since <= lifetime  # noqa: B023

        if priced.marking == "automatic":
            read = 0
            for end in steps:
                if not alive(end):
                    break
                read = end
            read = read if read >= priced.minimum else 0
            fresh = [end for end in steps if end > read]
            last = max(steps, default=0)
            used = [end for end in steps if end <= read]
        else:
            assert ends is not None
            mine = ends[index]
            marks = mine[-priced.max_breakpoints :]
            if len(mine) > priced.max_breakpoints > 1:
                marks = [mine[0], *mine[-(priced.max_breakpoints - 1) :]]
            good = [e for e in mine if e >= priced.minimum and not e % priced.granularity]
            looked = {e for m in marks for e in mine[: mine.index(m) + 1][-priced.lookback :]} & set(good)
            used = [end for end in looked if alive(end)]
            read = max(used, default=0)
            written_to = [m for m in marks if m in good]
            fresh = [m for m in written_to if not alive(m)]
            last = max(written_to, default=0)
        for end in [*fresh, *(used if priced.refreshed else [])]:
            kept[request.namespace, prompt[:end]] = now
        charged = priced.prices.cache_write is not None
        found.append((read, max(0, last - read) if charged else 0))
    return found


@settings(max_examples=200, deadline=None)
@given(PROMPTS, TABLES)
def test_same_bill_as_dictionaries_of_prefixes(
    drawn: list[tuple[list[int], str, int, list[int]]], priced: PriceTable
) -> None:
    log, ends = build(drawn)
    (bill,) = price_log(replace(log, message_ends=ends), [priced]).providers
    expected = naive(log, ends, priced)
    assert (bill.cached_tokens, bill.written_tokens) == (
        sum(read for read, _ in expected),
        sum(written for _, written in expected),
    )
    total = sum(request.prompt_tokens for request in log.calls)
    assert bill.cached_tokens + bill.written_tokens + bill.plain_tokens == total
    parts = bill.cost_input + bill.cost_reads + bill.cost_writes + bill.cost_output
    assert bill.cost == pytest.approx(parts)
    assert bill.saved == pytest.approx(bill.uncached - bill.cost)
    assert bill.plain_tokens >= 0


@settings(max_examples=80, deadline=None)
@given(PROMPTS, st.integers(1, 4))
def test_what_never_expires_is_what_an_unbounded_cache_reuses(
    drawn: list[tuple[list[int], str, int, list[int]]], size: int
) -> None:
    log, _ = build(drawn)
    cache, tokens = PrefixCache(1000, size, explain=False), PrefixCache(1000, 1, explain=False)
    whole = partial = 0
    for request in log.calls:
        if request.units:
            kept = request.units[: len(request.units) // (4 * size) * 4 * size]
            if kept:
                lease = cache.acquire(kept, request.namespace, recompute_last=False)
                whole += lease.num_cached_tokens // size * size
                lease.commit(lease.num_tokens)
                lease.release()
            lease = tokens.acquire(request.units, request.namespace)
            partial += lease.num_cached_tokens
            lease.commit(lease.num_tokens)
            lease.release()
    report = price_log(log, [table(granularity=size)], self_hosted=SelfHosted(1.0, 1.0))
    assert report.providers[0].cached_tokens == whole
    assert report.self_hosted is not None
    assert report.self_hosted.cached_tokens == partial


@settings(max_examples=50, deadline=None)
@given(PROMPTS, st.sampled_from([None, 5.0, 20.0]), st.integers(1, 4))
def test_marks_wherever_prompts_part_bring_as_much_as_reuse_of_every_token(
    drawn: list[tuple[list[int], str, int, list[int]]], lifetime: float | None, minimum: int
) -> None:
    log, _ = build(drawn)
    marked, automatic = (
        price_log(log, [table(lifetime_s=lifetime, minimum=minimum, marking=marking)]).providers[0]
        for marking in ("breakpoints", "automatic")
    )
    assert marked.cached_tokens == automatic.cached_tokens
