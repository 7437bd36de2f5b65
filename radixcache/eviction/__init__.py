"""Who leaves first: one policy a file behind one small interface."""

from __future__ import annotations

from radixcache.eviction.base import EvictionPolicy, HeapPolicy, is_candidate
from radixcache.eviction.lru import LRU
from radixcache.eviction.retention import PIN_PRIORITY, EvictionQueue, Pin, Retention, check_ranges

policies: dict[str, type[EvictionPolicy]] = {policy.name: policy for policy in (LRU,)}


def make_policy(policy: str | EvictionPolicy) -> EvictionPolicy:
    """A policy by its name, or the one given; ValueError lists the names there are."""
    if isinstance(policy, EvictionPolicy):
        return policy
    if policy not in policies:
        raise ValueError(f"unknown eviction policy {policy!r}; there are: {', '.join(sorted(policies))}")
    return policies[policy]()


__all__ = [
    "LRU",
    "PIN_PRIORITY",
    "EvictionPolicy",
    "EvictionQueue",
    "HeapPolicy",
    "Pin",
    "Retention",
    "check_ranges",
    "is_candidate",
    "make_policy",
    "policies",
]
