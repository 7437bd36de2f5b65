"""Eviction policies: one a file, behind one small interface.

Priority and time to live are no policy: they wrap every one (`Retention`, `EvictionQueue`).

SIEVE (Y. Zhang and others, NSDI '24) is left out, as a tree forbids it: its hand passes over nodes in the
order in which they came, parents before children, and a parent can leave only after its children, when the
hand is long past.  Made to wait for its children a node would come in the order of leaving, which is FIFO
with a second chance: the main queue of `S3FIFO`.
"""

from __future__ import annotations

from radixcache.cache.eviction.arc import ARC
from radixcache.cache.eviction.auto import Auto
from radixcache.cache.eviction.base import EvictionPolicy, HeapPolicy, is_candidate
from radixcache.cache.eviction.density import Density
from radixcache.cache.eviction.gdsf import GDSF
from radixcache.cache.eviction.lfu import LFU
from radixcache.cache.eviction.lru import LRU
from radixcache.cache.eviction.retention import PIN_PRIORITY, EvictionQueue, Pin, Retention, check_ranges
from radixcache.cache.eviction.s3fifo import S3FIFO
from radixcache.cache.eviction.slru import SLRU

policies: dict[str, type[EvictionPolicy]] = {
    policy.name: policy for policy in (LRU, LFU, SLRU, S3FIFO, ARC, GDSF, Density, Auto)
}


def make_policy(policy: str | EvictionPolicy) -> EvictionPolicy:
    """A policy by its name, or the one given; ValueError lists the names there are."""
    if isinstance(policy, EvictionPolicy):
        return policy
    if not isinstance(policy, str) or policy not in policies:
        raise ValueError(f"unknown eviction policy {policy!r}; there are: {', '.join(sorted(policies))}")
    return policies[policy]()


__all__ = [
    "ARC",
    "GDSF",
    "LFU",
    "LRU",
    "PIN_PRIORITY",
    "S3FIFO",
    "SLRU",
    "Auto",
    "Density",
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
