"""What a provider's cache reads and writes of each prompt of a log, by its rules.

There is room for everything: hosted caches publish no capacity. A request finds what every request before it
has left, unless its lifetime is over.
"""

from __future__ import annotations

import math
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from radixcache.pricing.paths import PricedLog
from radixcache.pricing.tables import PriceTable

__all__ = ["Usage", "apply_rules"]

_NEVER = -math.inf
_FOREVER = sys.float_info.max  # and not infinity: what was never kept is infinitely old, and not alive


class Usage(NamedTuple):
    """How the tokens of one prompt are billed; the three add up to it.

    Attributes:
        plain: tokens that are neither of the following.
        read: taken from the cache.
        written: put into it at a separate price; 0 where writing costs nothing extra.
    """

    plain: int
    read: int
    written: int


def apply_rules(
    log: PricedLog,
    order: Sequence[int],
    times: Sequence[float],
    table: PriceTable,
    boundaries: Sequence[Sequence[int] | None] | None = None,
) -> Iterator[Usage]:
    """Go through a log.

    Args:
        log: the calls.
        order: their numbers, in the order in which they come.
        times: seconds, one for each of `order`; ascending.
        table: whose rules.
        boundaries: where the messages of each call end, in tokens, ascending; a request that may mark
            breakpoints marks the first and the last of them. Where they are None, for all calls or for one,
            marks are assumed wherever prompts of the log diverge or end, an upper bound of their benefit.
    """
    if table.marking == "automatic":
        return _automatic(log, order, times, table)
    return _marked(log, order, times, table, boundaries)


def _automatic(
    log: PricedLog, order: Sequence[int], times: Sequence[float], table: PriceTable
) -> Iterator[Usage]:
    kept = array("d", [_NEVER]) * len(log.depths)  # when the lifetime of each stretch began
    lifetime = _FOREVER if table.lifetime_s is None else table.lifetime_s
    charged = table.prices.cache_write is not None
    for index, now in zip(order, times, strict=True):
        tokens = log.prompt_tokens[index]
        if tokens < table.minimum:
            yield Usage(tokens, 0, 0)
            continue
        path = log.path(index)
        alive = 0
        while alive < len(path) and now - kept[path[alive]] <= lifetime:
            alive += 1
        read = log.tokens(path[alive - 1], index) if alive else 0
        read -= read % table.granularity
        if read < table.minimum:
            read = 0
        # what a miss computes is written again, and so is what follows a hit
        for stretch in path if table.refreshed or not read else path[alive:]:
            kept[stretch] = now
        written = tokens - read - tokens % table.granularity if charged else 0
        yield Usage(tokens - read - written, read, written)


def _marked(
    log: PricedLog,
    order: Sequence[int],
    times: Sequence[float],
    table: PriceTable,
    boundaries: Sequence[Sequence[int] | None] | None,
) -> Iterator[Usage]:
    # a prefix that ends at a mark: the stretch where it ends and its tokens -> when its lifetime began
    entries: dict[tuple[int, int], float] = {}
    lifetime = _FOREVER if table.lifetime_s is None else table.lifetime_s
    charged = table.prices.cache_write is not None
    for index, now in zip(order, times, strict=True):
        tokens = log.prompt_tokens[index]
        path = log.path(index)
        depths = [log.tokens(stretch, index) for stretch in path]
        bounds = None if boundaries is None else boundaries[index]
        if bounds is None:
            looked_up, marks = depths, set(depths)
        else:
            ends = [end for end in bounds if 0 < end <= tokens]
            chosen = _marks(len(ends), table.max_breakpoints)
            marks = {ends[i] for i in chosen}
            reach = {j for i in chosen for j in range(max(0, i - table.lookback + 1), i + 1)}
            looked_up = [ends[j] for j in sorted(reach)]
        prefixes = [
            (path[bisect_left(depths, end)], end)
            for end in looked_up
            if end >= table.minimum and not end % table.granularity
        ]
        known = {prefix for prefix in prefixes if now - entries.get(prefix, _NEVER) <= lifetime}
        read = max((end for _, end in known), default=0)
        marked = [prefix for prefix in prefixes if prefix[1] in marks]
        for prefix in [*(known if table.refreshed else ()), *(p for p in marked if p not in known)]:
            entries[prefix] = now
        written = max(0, marked[-1][1] - read) if charged and marked else 0
        yield Usage(tokens - read - written, read, written)


def _marks(boundaries: int, most: int) -> list[int]:
    """Which boundaries are marked: the first (tools and system prompt) and the last ones."""
    if boundaries <= most:
        return list(range(boundaries))
    return ([0] if most > 1 else []) + list(range(boundaries - most + (most > 1), boundaries))
