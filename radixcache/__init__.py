"""radixcache: a prefix cache for language models.

`PrefixCache` is the control plane alone and imports no torch; `Engine` and what belongs to
it are loaded when first touched.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from radixcache.version import __version__

if TYPE_CHECKING:
    from radixcache.cache import (
        ARC,
        GDSF,
        LFU,
        LRU,
        S3FIFO,
        SLRU,
        Auto,
        BlockCopy,
        BlockLoad,
        BlocksRemoved,
        BlocksStored,
        BlockSupply,
        CacheCleared,
        CacheEvent,
        CacheSnapshot,
        CacheStats,
        Density,
        EvictedBlocks,
        EvictionPolicy,
        EvictionSink,
        Lease,
        LowerHit,
        LowerQuery,
        LowerTiers,
        MissReason,
        Pin,
        PrefixCache,
        PrefixIndex,
        Retention,
        TierRun,
        namespace_key,
    )
    from radixcache.engine import Engine, EngineConfig, GenerationResult, RequestHandle, SamplingParams
    from radixcache.engine.chat import ChatSession
    from radixcache.errors import (
        CacheInUseError,
        ChatBusyError,
        EngineClosedError,
        EngineDeadError,
        EngineForkedError,
        InvarianceError,
        InvarianceWarning,
        LeaseReleasedError,
        LogError,
        MissingExtraError,
        ModelError,
        OutOfBlocksError,
        PromptTooLongError,
        RadixCacheError,
        RequestFailedError,
        SamplingError,
        TokenError,
    )
    from radixcache.models import LoadedModel, load_model

_HOMES = {
    "ARC": "radixcache.cache",
    "Auto": "radixcache.cache",
    "BlockCopy": "radixcache.cache",
    "BlockLoad": "radixcache.cache",
    "BlockSupply": "radixcache.cache",
    "BlocksRemoved": "radixcache.cache",
    "BlocksStored": "radixcache.cache",
    "CacheCleared": "radixcache.cache",
    "CacheEvent": "radixcache.cache",
    "CacheInUseError": "radixcache.errors",
    "CacheSnapshot": "radixcache.cache",
    "CacheStats": "radixcache.cache",
    "ChatBusyError": "radixcache.errors",
    "ChatSession": "radixcache.engine.chat",
    "Density": "radixcache.cache",
    "Engine": "radixcache.engine",
    "EngineClosedError": "radixcache.errors",
    "EngineConfig": "radixcache.engine",
    "EngineDeadError": "radixcache.errors",
    "EngineForkedError": "radixcache.errors",
    "EvictedBlocks": "radixcache.cache",
    "EvictionPolicy": "radixcache.cache",
    "EvictionSink": "radixcache.cache",
    "GDSF": "radixcache.cache",
    "GenerationResult": "radixcache.engine",
    "InvarianceError": "radixcache.errors",
    "InvarianceWarning": "radixcache.errors",
    "LFU": "radixcache.cache",
    "LRU": "radixcache.cache",
    "Lease": "radixcache.cache",
    "LeaseReleasedError": "radixcache.errors",
    "LoadedModel": "radixcache.models",
    "LogError": "radixcache.errors",
    "LowerHit": "radixcache.cache",
    "LowerQuery": "radixcache.cache",
    "LowerTiers": "radixcache.cache",
    "MissReason": "radixcache.cache",
    "MissingExtraError": "radixcache.errors",
    "ModelError": "radixcache.errors",
    "OutOfBlocksError": "radixcache.errors",
    "Pin": "radixcache.cache",
    "PrefixCache": "radixcache.cache",
    "PrefixIndex": "radixcache.cache",
    "PromptTooLongError": "radixcache.errors",
    "RadixCacheError": "radixcache.errors",
    "RequestFailedError": "radixcache.errors",
    "RequestHandle": "radixcache.engine",
    "Retention": "radixcache.cache",
    "S3FIFO": "radixcache.cache",
    "SLRU": "radixcache.cache",
    "SamplingError": "radixcache.errors",
    "SamplingParams": "radixcache.engine",
    "TierRun": "radixcache.cache",
    "TokenError": "radixcache.errors",
    "load_model": "radixcache.models",
    "namespace_key": "radixcache.cache",
}

__all__ = [
    "ARC",
    "Auto",
    "BlockCopy",
    "BlockLoad",
    "BlockSupply",
    "BlocksRemoved",
    "BlocksStored",
    "CacheCleared",
    "CacheEvent",
    "CacheInUseError",
    "CacheSnapshot",
    "CacheStats",
    "ChatBusyError",
    "ChatSession",
    "Density",
    "Engine",
    "EngineClosedError",
    "EngineConfig",
    "EngineDeadError",
    "EngineForkedError",
    "EvictedBlocks",
    "EvictionPolicy",
    "EvictionSink",
    "GDSF",
    "GenerationResult",
    "InvarianceError",
    "InvarianceWarning",
    "LFU",
    "LRU",
    "Lease",
    "LeaseReleasedError",
    "LoadedModel",
    "LogError",
    "LowerHit",
    "LowerQuery",
    "LowerTiers",
    "MissReason",
    "MissingExtraError",
    "ModelError",
    "OutOfBlocksError",
    "Pin",
    "PrefixCache",
    "PrefixIndex",
    "PromptTooLongError",
    "RadixCacheError",
    "RequestFailedError",
    "RequestHandle",
    "Retention",
    "S3FIFO",
    "SLRU",
    "SamplingError",
    "SamplingParams",
    "TierRun",
    "TokenError",
    "__version__",
    "load_model",
    "namespace_key",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'radixcache' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
