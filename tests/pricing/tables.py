"""Price tables for tests, with prices that can be told apart."""

from __future__ import annotations

from datetime import date
from typing import Any

from radixcache.pricing import Prices, PriceTable


def table(**changes: Any) -> PriceTable:
    """An automatic cache without a minimum; a million tokens cost 10, read 1, answered 100."""
    fields: dict[str, Any] = {
        "name": "test",
        "currency": "USD",
        "prices": Prices(10.0, 1.0, None, 100.0),
        "long_above": None,
        "long_prices": None,
        "minimum": 1,
        "granularity": 1,
        "lifetime_s": None,
        "refreshed": True,
        "marking": "automatic",
        "max_breakpoints": 4,
        "lookback": 20,
        "as_of": date(2026, 1, 1),
        "source": "nowhere",
        "rules_source": "",
        "note": "",
    }
    return PriceTable(**{**fields, **changes})
