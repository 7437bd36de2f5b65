"""The batching engine: requests in, tokens out, prefill skipped wherever KV is cached."""

from radixcache.extras import require_extra

require_extra("engine", "the engine")

from radixcache.engine.config import EngineConfig
from radixcache.engine.engine import Engine
from radixcache.engine.handle import RequestHandle
from radixcache.engine.params import SamplingParams
from radixcache.engine.result import Completion, Delta, GenerationResult, RequestUsage, TokenLogprob
from radixcache.engine.stats import EngineStats

__all__ = [
    "Completion",
    "Delta",
    "Engine",
    "EngineConfig",
    "EngineStats",
    "GenerationResult",
    "RequestHandle",
    "RequestUsage",
    "SamplingParams",
    "TokenLogprob",
]
