"""Hand-computed bills, one rule at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from radixcache.pricing import PricedProvider, Prices, PriceTable, PricingError, SelfHosted, price_log
from radixcache.workload.workload import Workload
from tests.pricing.tables import table
from tests.simulate.workloads import call, trace, workload

WRITES = Prices(10.0, 1.0, 12.5, 100.0)


def bill(
    log: Workload, priced: PriceTable, boundaries: Sequence[Sequence[int]] | None = None
) -> PricedProvider:
    (provider,) = price_log(replace(log, message_ends=boundaries), [priced]).providers
    return provider


def at(*prompts: tuple[float, Sequence[int]]) -> Workload:
    return Workload(1, [call(prompt, timestamp=time) for time, prompt in prompts])


@pytest.mark.parametrize(("minimum", "read"), [(99, 100), (100, 100), (101, 0)])
def test_a_prefix_shorter_than_the_minimum_is_not_cached(minimum: int, read: int) -> None:
    head = list(range(100))
    found = bill(workload([*head, 500, 501], [*head, 600, 601]), table(minimum=minimum))
    assert (found.cached_tokens, found.plain_tokens, found.written_tokens) == (read, 204 - read, 0)
    assert found.cost == pytest.approx((204 - read) * 10e-6 + read * 1e-6)
    assert found.uncached == pytest.approx(204 * 10e-6)


@pytest.mark.parametrize(("granularity", "read"), [(1, 100), (25, 100), (32, 96), (64, 64), (128, 0)])
def test_a_prefix_is_read_in_whole_steps(granularity: int, read: int) -> None:
    head = list(range(100))
    found = bill(workload([*head, 500], [*head, 600]), table(granularity=granularity))
    assert found.cached_tokens == read


@pytest.mark.parametrize(("gap", "read"), [(299.0, 5), (300.0, 5), (300.5, 0)])
def test_a_prefix_is_gone_after_its_lifetime(gap: float, read: int) -> None:
    log = at((1000.0, range(5)), (1000.0 + gap, range(5)))
    assert bill(log, table(lifetime_s=300.0)).cached_tokens == read
    marked = table(lifetime_s=300.0, marking="breakpoints")
    assert bill(log, marked).cached_tokens == read


@pytest.mark.parametrize(("refreshed", "read"), [(True, 15), (False, 10)])
@pytest.mark.parametrize("marking", ["automatic", "breakpoints"])
def test_a_use_starts_the_lifetime_anew_where_the_table_says_so(
    marking: str, refreshed: bool, read: int
) -> None:
    """Uses at 0, 200, 400 and 600 s, with a lifetime of 300 s: without refreshing that of 400 s misses."""
    log = at(*((200.0 * i, range(5)) for i in range(4)))
    found = bill(log, table(lifetime_s=300.0, refreshed=refreshed, marking=marking))
    assert found.cached_tokens == read


def test_only_the_part_that_was_used_is_refreshed() -> None:
    log = at((0, [1, 2, 3, 4]), (200, [1, 2, 9]), (400, [1, 2, 3, 4]))
    assert bill(log, table(lifetime_s=300.0)).cached_tokens == 2 + 2


def test_a_prompt_below_the_minimum_refreshes_nothing() -> None:
    long = list(range(10))
    log = at((0, long), (200, long[:4]), (400, long))
    assert bill(log, table(lifetime_s=300.0, minimum=5)).cached_tokens == 0


def test_writes_cost_their_own_price() -> None:
    head = list(range(100))
    found = bill(workload([*head, 500], [*head, 600, 601]), table(prices=WRITES, marking="breakpoints"))
    assert (found.cached_tokens, found.written_tokens, found.plain_tokens) == (100, 101 + 2, 0)
    assert found.cost_writes == pytest.approx(103 * 12.5e-6)
    assert found.cost_reads == pytest.approx(100e-6)
    assert found.saved == pytest.approx(203 * 10e-6 - found.cost)


def test_writes_that_nobody_reads_cost_more_than_no_cache() -> None:
    found = bill(workload([1, 2, 3], [4, 5, 6]), table(prices=WRITES, marking="breakpoints"))
    assert found.saved_share == pytest.approx(-0.25)


def test_an_automatic_cache_charges_writes_of_whole_steps() -> None:
    found = bill(workload(range(10), range(12)), table(prices=WRITES, granularity=4))
    assert (found.cached_tokens, found.written_tokens, found.plain_tokens) == (8, 8 + 4, 2)


def test_marks_stand_at_ends_of_messages() -> None:
    """Two sessions share 12 tokens, but the only message that ends within them ends after 10."""
    system, first, second = list(range(10)), [20, 21, 22, 23], [20, 21, 30, 31]
    log = workload(system + first, system + second)
    ends = [[10, 14], [10, 14]]
    found = bill(log, table(prices=WRITES, marking="breakpoints"), ends)
    assert (found.cached_tokens, found.written_tokens, found.plain_tokens) == (10, 14 + 4, 0)
    assert bill(log, table(prices=WRITES, marking="breakpoints")).cached_tokens == 12


def test_a_single_mark_at_the_end_shares_no_system_prompt() -> None:
    system = list(range(10))
    log = workload([*system, 20], [*system, 30], [*system, 20, 40])
    ends = [[10, 11], [10, 11], [10, 11, 12]]
    found = bill(log, table(prices=WRITES, marking="breakpoints", max_breakpoints=1), ends)
    assert found.cached_tokens == 11


def test_what_follows_the_last_mark_is_plain_input() -> None:
    found = bill(workload(range(10), range(10)), table(prices=WRITES, marking="breakpoints"), [[6], [6]])
    assert (found.cached_tokens, found.written_tokens, found.plain_tokens) == (6, 6, 8)


def test_marks_below_the_minimum_are_ignored() -> None:
    log = workload([*range(10), 50], [*range(10), 60])
    priced = table(prices=WRITES, marking="breakpoints", minimum=11)
    found = bill(log, priced, [[10, 11], [10, 11]])
    assert (found.cached_tokens, found.written_tokens, found.plain_tokens) == (0, 22, 0)


def test_a_lookup_goes_so_many_messages_back() -> None:
    """The second request adds three messages: of its marks the first is at its first message alone."""
    log = workload(range(5), range(8))
    ends = [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6, 7, 8]]
    read = {
        lookback: bill(
            log, table(prices=WRITES, marking="breakpoints", max_breakpoints=2, lookback=lookback), ends
        ).cached_tokens
        for lookback in (3, 4)
    }
    assert read == {3: 1, 4: 5}


def test_long_prompts_have_prices_of_their_own() -> None:
    long = table(long_above=10, long_prices=Prices(20.0, 2.0, None, 200.0))
    log = Workload(1, [call(range(10), output=[7]), call(range(11), output=[7])])
    found = bill(log, long)
    assert found.cost_input == pytest.approx(10 * 10e-6 + 1 * 20e-6)
    assert found.cost_reads == pytest.approx(10 * 2e-6)
    assert found.cost_output == pytest.approx(100e-6 + 200e-6)
    assert found.uncached == pytest.approx(10 * 10e-6 + 11 * 20e-6 + 300e-6)


def test_namespaces_share_nothing() -> None:
    log = Workload(1, [call(range(9), namespace=name) for name in ("a", "b", "a")])
    assert bill(log, table()).cached_tokens == 9
    assert bill(log, table(marking="breakpoints")).cached_tokens == 9


def test_a_trace_is_counted_in_tokens() -> None:
    log = trace(512, ([0, 1, 2], 1100), ([0, 1, 3], 1536), ([0, 1, 2], 1100))
    assert bill(log, table()).cached_tokens == 1024 + 1100
    assert bill(log, table(granularity=1000)).cached_tokens == 1000 + 1000


def test_requests_come_in_the_order_of_their_timestamps() -> None:
    log = at((500.0, range(8)), (0.0, range(4)), (100.0, range(6)))
    assert bill(log, table(lifetime_s=450.0)).cached_tokens == 4 + 6


def test_without_timestamps_an_interval_is_assumed_and_said() -> None:
    log = workload(range(5), range(5))
    priced = table(lifetime_s=300.0)
    report = price_log(log, [priced], interval_s=301.0)
    assert report.providers[0].cached_tokens == 0
    assert any("301 s apart" in line for line in report.assumptions)
    assert price_log(log, [priced], interval_s=300.0).providers[0].cached_tokens == 5
    assert not any("apart" in line for line in price_log(at((0, [1])), [priced]).assumptions)


def test_self_hosted_prefill() -> None:
    """20 + 20 tokens, of which 19 are reused (the last is always computed), at 10 tokens a second."""
    report = price_log(workload(range(20), range(20)), [table()], self_hosted=SelfHosted(3600.0, 10.0))
    own = report.self_hosted
    assert own is not None
    assert (own.cached_tokens, own.uncached_s, own.cost_s) == (19, 4.0, pytest.approx(2.1))
    assert (own.uncached, own.cost) == (pytest.approx(4.0), pytest.approx(2.1))
    given = price_log(
        workload(range(20), range(20)), [table()], self_hosted=SelfHosted(3600.0, 10.0), cached_tokens=5
    )
    assert given.self_hosted is not None
    assert given.self_hosted.saved == pytest.approx(0.5)


def test_what_cannot_be_priced_is_refused() -> None:
    log = workload([1])
    with pytest.raises(PricingError, match="no price tables given"):
        price_log(log, [])
    with pytest.raises(PricingError, match="no request"):
        price_log(Workload(1, []), [table()])
    with pytest.raises(PricingError, match=r"interval must be at least 0 seconds, got -1\.0"):
        price_log(log, [table()], interval_s=-1.0)
    with pytest.raises(PricingError, match="gpu_hour must be above 0, got 0"):
        SelfHosted(0.0, 1.0)
    with pytest.raises(PricingError, match="message_ends must be of 1 prompts, got those of 2"):
        price_log(replace(log, message_ends=[[1], [1]]), [table()])
