"""How a request is run, beside how it is continued."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypedDict

from radixcache.cache.eviction import Retention, check_ranges
from radixcache.ranges import is_number


class RequestOptions(TypedDict, total=False):
    """Keyword arguments that `submit`, `generate`, `stream` and `chat` have in common.

    Attributes:
        namespace: requests share KV only within a namespace (a tenant, say).
        retain: how long to keep ranges of the prompt, in whole blocks, once it is computed.
        priority: among waiting requests the highest runs first; blocks are taken from the lowest first.
        timeout: seconds from submit, waiting included, after which the request ends as it is.
    """

    namespace: str | bytes
    retain: Sequence[Retention]
    priority: int
    timeout: float | None


def check_retain(retain: Any) -> tuple[Retention, ...]:
    """Ranges to keep; ValueError if they overlap, or are not `Retention`."""
    if isinstance(retain, Retention):
        return (retain,)
    check_ranges(retain)
    return tuple(retain)


def check_timeout(timeout: Any) -> float | None:
    """Seconds as a float, or None; ValueError names what is not a number above 0."""
    if timeout is None:
        return None
    if not is_number(timeout) or not math.isfinite(timeout) or timeout <= 0:
        raise ValueError(f"timeout must be a finite number of seconds above 0, got {timeout!r}")
    return float(timeout)
