"""The assumptions behind a price, in sentences for its reader."""

from __future__ import annotations

import math
from collections.abc import Sequence

from radixcache.pricing.paths import PricedLog
from radixcache.pricing.results import PricedSelfHosted
from radixcache.pricing.tables import PriceTable

__all__ = ["assumptions_of"]


def assumptions_of(
    log: PricedLog,
    tables: Sequence[PriceTable],
    endless: int,
    counted_answers: int,
    interval_s: float,
    own: PricedSelfHosted | None,
) -> list[str]:
    """A sentence for everything that neither the log nor the tables tell.

    Args:
        log, tables, interval_s, own: as they were priced.
        endless: prompts of which it is not known where their messages end.
        counted_answers: answers whose tokens were counted from their text.
    """
    hosted = _of_tables(log, tables, endless, counted_answers, interval_s) if tables else []
    if own is None:
        return hosted
    return [
        *hosted,
        "Self-hosted costs are those of prefill alone, with the machine busy all the time: the answers cost "
        "the same with a cache or without.",
    ]


def _of_tables(
    log: PricedLog, tables: Sequence[PriceTable], endless: int, counted_answers: int, interval_s: float
) -> list[str]:
    found = [
        "Tokens are counted by the tokenizer of this report; a provider's own counts somewhat differently.",
        "The cache is unlimited, a request finds what all requests before it left, and answers are not "
        "cached until they are sent back in a prompt.",
    ]
    missing = sum(map(math.isnan, log.timestamps))
    if missing:
        what = "no timestamps" if missing == len(log) else f"no timestamp in {missing:,} of its requests"
        found.append(
            f"The log has {what}: requests are assumed to arrive {interval_s:g} s apart, in the order of the "
            "log."
        )
    if counted_answers:
        whose = _answers(counted_answers, len(log))
        found.append(f"The length of {whose} is not logged: it was counted from their text and tool calls.")
    silent = sum(not tokens for tokens in log.output_tokens)
    if silent:
        whose = _answers(silent, len(log))
        found.append(f"The length of {whose} is not known: they cost nothing here.")
    marked = [table for table in tables if table.marking == "breakpoints"]
    if marked and endless < len(log):
        found.append(
            "Breakpoints are assumed at the end of the first part (tools and system prompt) and of "
            "the last messages."
        )
    if marked and endless:
        whose = "" if endless == len(log) else f" in {endless:,} of {len(log):,} requests"
        found.append(
            f"Where messages end is not known{whose}: breakpoints are assumed wherever prompts of the log "
            "diverge or end, which is an upper bound of their benefit."
        )
    if any(table.lifetime_s is None for table in tables):
        found.append(
            "Where a provider publishes no lifetime, nothing is assumed to expire: its saving is an upper "
            "bound."
        )
    return found


def _answers(count: int, of: int) -> str:
    return "the answers" if count == of else f"{count:,} of {of:,} answers"
