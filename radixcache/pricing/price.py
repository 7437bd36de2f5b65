"""The cost of a log by price tables, and on your own machines."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

from radixcache.pricing.assumptions import assumptions_of
from radixcache.pricing.errors import PricingError
from radixcache.pricing.paths import PricedLog
from radixcache.pricing.results import PricedProvider, PricedSelfHosted, PricingReport, SelfHosted
from radixcache.pricing.rules import apply_rules
from radixcache.pricing.tables import PriceTable
from radixcache.workload.workload import LoggedCalls

__all__ = ["DEFAULT_CURRENCY", "DEFAULT_INTERVAL_S", "price_log"]

DEFAULT_INTERVAL_S = 10.0
DEFAULT_CURRENCY = "USD"
"""Of machines whose price comes without price tables."""


def price_log(
    workload: LoggedCalls,
    tables: Sequence[PriceTable],
    *,
    interval_s: float = DEFAULT_INTERVAL_S,
    self_hosted: SelfHosted | None = None,
    cached_tokens: int | None = None,
) -> PricingReport:
    """Apply the rules of every table to a log.

    Args:
        workload: the log; taken in the order of its timestamps, or as it is where any is missing. Its calls
            are read once, and then one or two again for each.
        tables: from `load_pricing`.
        interval_s: seconds between requests where the log has no timestamps.
        self_hosted: your own machines, to price as well.
        cached_tokens: tokens that the cache of these machines saves; None for those that a cache without
            limits would save.

    Raises:
        PricingError: neither a table nor machines, no request, or an interval below 0.
    """
    if not tables and self_hosted is None:
        raise PricingError("no price tables given")
    if not workload.calls:
        raise PricingError("the log has no requests to price")
    if not 0 <= interval_s < float("inf"):
        raise PricingError(f"interval must be at least 0 seconds, got {interval_s}")
    boundaries = workload.message_ends
    if boundaries is not None and len(boundaries) != len(workload.calls):
        raise PricingError(
            f"message_ends must be of {len(workload.calls)} prompts, got those of {len(boundaries)}"
        )
    log = PricedLog(workload)
    order, times = _times(log, interval_s)
    providers = tuple(_provider(log, order, times, table, boundaries) for table in tables)
    endless = len(log) if boundaries is None else sum(ends is None for ends in boundaries)
    own = None
    if self_hosted is not None:
        saved = _reusable(log, order) if cached_tokens is None else cached_tokens
        own = _self_hosted(self_hosted, sum(log.prompt_tokens), saved)
    return PricingReport(
        currency=tables[0].currency if tables else DEFAULT_CURRENCY,
        uncached=providers[0].uncached if providers else own.uncached if own is not None else 0.0,
        prompt_tokens=sum(log.prompt_tokens),
        output_tokens=sum(log.output_tokens),
        providers=providers,
        self_hosted=own,
        assumptions=tuple(assumptions_of(log, tables, endless, workload.counted_answers, interval_s, own)),
    )


def _times(log: PricedLog, interval_s: float) -> tuple[Sequence[int], Sequence[float]]:
    if any(map(math.isnan, log.timestamps)):
        return range(len(log)), array("d", (index * interval_s for index in range(len(log))))
    order = array("q", sorted(range(len(log)), key=log.timestamps.__getitem__))
    return order, array("d", (log.timestamps[index] for index in order))


def _provider(
    log: PricedLog,
    order: Sequence[int],
    times: Sequence[float],
    table: PriceTable,
    boundaries: Sequence[Sequence[int] | None] | None,
) -> PricedProvider:
    tokens = [0, 0, 0]
    costs = [0.0, 0.0, 0.0, 0.0]
    uncached = 0.0
    for index, usage in zip(order, apply_rules(log, order, times, table, boundaries), strict=True):
        prices, output = table.prices_for(log.prompt_tokens[index]), log.output_tokens[index]
        tokens = [a + b for a, b in zip(tokens, usage, strict=True)]
        costs = [a + b for a, b in zip(costs, prices.cost(*usage, output), strict=True)]
        uncached += sum(prices.cost(log.prompt_tokens[index], 0, 0, output))
    cost = sum(costs)
    return PricedProvider(
        name=table.name,
        cost=cost,
        uncached=uncached,
        saved=uncached - cost,
        saved_share=_share(uncached - cost, uncached),
        cached_tokens=tokens[1],
        written_tokens=tokens[2],
        plain_tokens=tokens[0],
        output_tokens=sum(log.output_tokens),
        cost_input=costs[0],
        cost_reads=costs[1],
        cost_writes=costs[2],
        cost_output=costs[3],
        rules=table.rules,
        as_of=table.as_of.isoformat(),
        source=table.source,
        rules_source=table.rules_source,
        note=table.note,
    )


def _reusable(log: PricedLog, order: Sequence[int]) -> int:
    """Tokens that an engine with room for everything reuses: all but the last token of a prompt at most."""
    seen = bytearray(len(log.depths))
    total = 0
    for index in order:
        path = log.path(index)
        deepest = max((stretch for stretch in path if seen[stretch]), key=log.depths.__getitem__, default=-1)
        if deepest >= 0:
            total += min(log.tokens(deepest, index), log.prompt_tokens[index] - 1)
        for stretch in path:
            seen[stretch] = 1
    return total


def _self_hosted(own: SelfHosted, prompt_tokens: int, cached_tokens: int) -> PricedSelfHosted:
    uncached_s = prompt_tokens / own.prefill_speed
    cost_s = (prompt_tokens - cached_tokens) / own.prefill_speed
    uncached, cost = (seconds * own.gpu_hour / 3600 for seconds in (uncached_s, cost_s))
    return PricedSelfHosted(
        gpu_hour=own.gpu_hour,
        prefill_speed=own.prefill_speed,
        cached_tokens=cached_tokens,
        uncached=uncached,
        cost=cost,
        saved=uncached - cost,
        saved_share=_share(uncached - cost, uncached),
        uncached_s=uncached_s,
        cost_s=cost_s,
    )


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
