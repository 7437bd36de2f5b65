"""radixcache: a prefix cache for language models.

`PrefixCache` is the control plane alone and imports no torch; `Engine` and what belongs to
it are loaded when first touched.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from radixcache.version import __version__

if TYPE_CHECKING:
    from radixcache.cache.lease import BlockCopy, Lease
    from radixcache.cache.prefix_cache import PrefixCache
    from radixcache.engine import (
        Delta,
        Engine,
        EngineConfig,
        GenerationResult,
        RequestHandle,
        RequestUsage,
        SamplingParams,
    )
    from radixcache.engine.chat import ChatSession
    from radixcache.errors import (
        CacheInUseError,
        ChatBusyError,
        EngineClosedError,
        EngineDeadError,
        EngineForkedError,
        EngineOverloadedError,
        InvarianceError,
        InvarianceWarning,
        LogError,
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
    "BlockCopy": "radixcache.cache.lease",
    "CacheInUseError": "radixcache.errors",
    "ChatBusyError": "radixcache.errors",
    "ChatSession": "radixcache.engine.chat",
    "Delta": "radixcache.engine",
    "Engine": "radixcache.engine",
    "EngineClosedError": "radixcache.errors",
    "EngineConfig": "radixcache.engine",
    "EngineDeadError": "radixcache.errors",
    "EngineForkedError": "radixcache.errors",
    "EngineOverloadedError": "radixcache.errors",
    "GenerationResult": "radixcache.engine",
    "InvarianceError": "radixcache.errors",
    "InvarianceWarning": "radixcache.errors",
    "Lease": "radixcache.cache.lease",
    "LoadedModel": "radixcache.models",
    "LogError": "radixcache.errors",
    "ModelError": "radixcache.errors",
    "OutOfBlocksError": "radixcache.errors",
    "PrefixCache": "radixcache.cache.prefix_cache",
    "PromptTooLongError": "radixcache.errors",
    "RadixCacheError": "radixcache.errors",
    "RequestFailedError": "radixcache.errors",
    "RequestHandle": "radixcache.engine",
    "RequestUsage": "radixcache.engine",
    "SamplingError": "radixcache.errors",
    "SamplingParams": "radixcache.engine",
    "TokenError": "radixcache.errors",
    "load_model": "radixcache.models",
}

__all__ = [
    "BlockCopy",
    "CacheInUseError",
    "ChatBusyError",
    "ChatSession",
    "Delta",
    "Engine",
    "EngineClosedError",
    "EngineConfig",
    "EngineDeadError",
    "EngineForkedError",
    "EngineOverloadedError",
    "GenerationResult",
    "InvarianceError",
    "InvarianceWarning",
    "Lease",
    "LoadedModel",
    "LogError",
    "ModelError",
    "OutOfBlocksError",
    "PrefixCache",
    "PromptTooLongError",
    "RadixCacheError",
    "RequestFailedError",
    "RequestHandle",
    "RequestUsage",
    "SamplingError",
    "SamplingParams",
    "TokenError",
    "__version__",
    "load_model",
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
