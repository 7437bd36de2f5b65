"""The error of this package."""

from __future__ import annotations

from radixcache.errors import RadixCacheError

__all__ = ["PricingError"]


class PricingError(RadixCacheError, ValueError):
    """A price table that cannot be used, or a log that cannot be priced."""
