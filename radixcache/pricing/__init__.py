"""The cost of a log: without a cache, by the rules of hosted caches, and on your own machines."""

from __future__ import annotations

from radixcache.pricing.errors import PricingError
from radixcache.pricing.price import DEFAULT_CURRENCY, DEFAULT_INTERVAL_S, price_log
from radixcache.pricing.results import PricedProvider, PricedSelfHosted, PricingReport, SelfHosted
from radixcache.pricing.tables import Prices, PriceTable, load_pricing

__all__ = [
    "DEFAULT_CURRENCY",
    "DEFAULT_INTERVAL_S",
    "PriceTable",
    "PricedProvider",
    "PricedSelfHosted",
    "Prices",
    "PricingError",
    "PricingReport",
    "SelfHosted",
    "load_pricing",
    "price_log",
]
