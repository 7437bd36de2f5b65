"""What the cache counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from radixcache.cache.loads import BlockLoad


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counters since the cache was made, and gauges of this moment.

    Counters leave out requests acquired with `count=False`.  Tokens are prompt tokens;
    `prompt_tokens == cached_tokens + sum(missed_tokens.values())`.

    Attributes:
        requests: leases acquired.
        prompt_tokens: tokens of their prompts.
        cached_tokens: tokens reused, copied and loaded ones included; a load that fails is moved to the
            missed ones.
        missed_tokens: tokens not reused, by reason (see `MissReason`).
        copied_tokens: of the cached tokens, those reused by copying part of a block.
        published_blocks: blocks that entered the tree, partial tails included.
        duplicate_blocks: blocks computed twice and swapped for the published one.
        evicted_blocks: blocks evicted.
        num_blocks, free_blocks, evictable_blocks, protected_blocks: the pool now; with `draining_blocks`
            the last three add up to the first.
        cached_tokens_resident: tokens in the tree now.
        leases: live leases.
        block_waste: 1 - tokens held / (blocks in use * block size); 0.0 when none is in use.
        draining_blocks: blocks that left and that a transfer still reads or writes.
        loaded_tokens: of the cached tokens, those loaded from a lower tier or being loaded, by tier.
        sink_errors: how often the eviction sink raised or answered what cannot be.
    """

    requests: int
    prompt_tokens: int
    cached_tokens: int
    missed_tokens: dict[str, int]
    copied_tokens: int
    published_blocks: int
    duplicate_blocks: int
    evicted_blocks: int
    num_blocks: int
    free_blocks: int
    evictable_blocks: int
    protected_blocks: int
    cached_tokens_resident: int
    leases: int
    block_waste: float
    draining_blocks: int = 0
    loaded_tokens: dict[str, int] = field(default_factory=dict)
    sink_errors: int = 0

    @property
    def hit_rate(self) -> float:
        """Cached over prompt tokens, 0 to 1; 0.0 before the first request."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0

    @property
    def pool_tokens(self) -> int:
        """Cached tokens that were in the pool already."""
        return self.cached_tokens - sum(self.loaded_tokens.values())


class Counters:
    """The counters of `CacheStats` that leases move: attributes as there."""

    __slots__ = ("cached_tokens", "copied_tokens", "loaded", "missed", "prompt_tokens", "requests")

    def __init__(self) -> None:
        self.requests = self.prompt_tokens = self.cached_tokens = self.copied_tokens = 0
        self.missed: dict[str, int] = {}
        self.loaded: dict[str, int] = {}

    def load(self, loads: Iterable[BlockLoad]) -> None:
        """Blocks of the cached tokens are to be loaded."""
        for load in loads:
            self.loaded[load.tier] = self.loaded.get(load.tier, 0) + load.num_tokens

    def fail(self, loads: Iterable[BlockLoad], reason: str) -> None:
        """Blocks that were counted as loaded were not."""
        for load in loads:
            tokens = load.num_tokens
            self.loaded[load.tier] -= tokens
            if not self.loaded[load.tier]:
                del self.loaded[load.tier]
            self.cached_tokens -= tokens
            self.missed[reason] = self.missed.get(reason, 0) + tokens
