"""The control plane: which prefixes are cached, in which blocks, and what is evicted first; imports no torch.

README.md in this folder says what each module is for and what must hold between them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from radixcache.cache.check import check_invariants
    from radixcache.cache.digest import block_digests, namespace_digest
    from radixcache.cache.draining import EvictedBlocks, EvictionSink
    from radixcache.cache.events import BlocksRemoved, BlocksStored, CacheCleared, CacheEvent, CacheSnapshot
    from radixcache.cache.eviction import (
        ARC,
        GDSF,
        LFU,
        LRU,
        S3FIFO,
        SLRU,
        Auto,
        Density,
        EvictionPolicy,
        HeapPolicy,
        Pin,
        Retention,
        policies,
    )
    from radixcache.cache.index import PrefixIndex
    from radixcache.cache.lease import BlockCopy, Lease
    from radixcache.cache.loads import BlockLoad, LowerHit, LowerQuery, LowerTiers, TierRun
    from radixcache.cache.misses import MissReason
    from radixcache.cache.namespaces import Namespace, namespace_key
    from radixcache.cache.prefix_cache import PrefixCache
    from radixcache.cache.stats import CacheStats
    from radixcache.cache.supplied import BlockSupply

_HOMES = {
    "ARC": "eviction",
    "Auto": "eviction",
    "BlockCopy": "lease",
    "BlockLoad": "loads",
    "BlockSupply": "supplied",
    "BlocksRemoved": "events",
    "BlocksStored": "events",
    "CacheCleared": "events",
    "CacheEvent": "events",
    "CacheSnapshot": "events",
    "CacheStats": "stats",
    "Density": "eviction",
    "EvictedBlocks": "draining",
    "EvictionPolicy": "eviction",
    "EvictionSink": "draining",
    "GDSF": "eviction",
    "HeapPolicy": "eviction",
    "LFU": "eviction",
    "LRU": "eviction",
    "Lease": "lease",
    "LowerHit": "loads",
    "LowerQuery": "loads",
    "LowerTiers": "loads",
    "MissReason": "misses",
    "Namespace": "namespaces",
    "Pin": "eviction",
    "PrefixCache": "prefix_cache",
    "PrefixIndex": "index",
    "Retention": "eviction",
    "S3FIFO": "eviction",
    "SLRU": "eviction",
    "TierRun": "loads",
    "block_digests": "digest",
    "check_invariants": "check",
    "namespace_digest": "digest",
    "namespace_key": "namespaces",
    "policies": "eviction",
}

__all__ = [
    "ARC",
    "GDSF",
    "LFU",
    "LRU",
    "S3FIFO",
    "SLRU",
    "Auto",
    "BlockCopy",
    "BlockLoad",
    "BlockSupply",
    "BlocksRemoved",
    "BlocksStored",
    "CacheCleared",
    "CacheEvent",
    "CacheSnapshot",
    "CacheStats",
    "Density",
    "EvictedBlocks",
    "EvictionPolicy",
    "EvictionSink",
    "HeapPolicy",
    "Lease",
    "LowerHit",
    "LowerQuery",
    "LowerTiers",
    "MissReason",
    "Namespace",
    "Pin",
    "PrefixCache",
    "PrefixIndex",
    "Retention",
    "TierRun",
    "block_digests",
    "check_invariants",
    "namespace_digest",
    "namespace_key",
    "policies",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'radixcache.cache' has no attribute {name!r}")
    value = getattr(import_module(f"radixcache.cache.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
