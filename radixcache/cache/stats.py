"""What the cache counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counters since the cache was made, and gauges of this moment.

    Counters leave out requests acquired with `count=False`.  Tokens are prompt tokens;
    `prompt_tokens == cached_tokens + sum(missed_tokens.values())`.

    Attributes:
        requests: leases acquired.
        prompt_tokens: tokens of their prompts.
        cached_tokens: tokens reused, copied ones included.
        missed_tokens: tokens not reused, by reason (see `MissReason`).
        copied_tokens: of the cached tokens, those reused by copying part of a block.
        published_blocks: blocks that entered the tree, partial tails included.
        duplicate_blocks: blocks computed twice and swapped for the published one.
        evicted_blocks: blocks evicted.
        num_blocks, free_blocks, evictable_blocks, protected_blocks: the pool now; the last three
            add up to the first.
        cached_tokens_resident: tokens in the tree now.
        leases: live leases.
        block_waste: 1 - tokens held / (blocks in use * block size); 0.0 when none is in use.
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

    @property
    def hit_rate(self) -> float:
        """Cached over prompt tokens, 0 to 1; 0.0 before the first request."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0
