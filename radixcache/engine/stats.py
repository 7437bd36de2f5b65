"""Counters of an engine."""

from __future__ import annotations

from dataclasses import dataclass

from radixcache.cache.stats import CacheStats


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot of what an engine has done since it was made.

    Attributes:
        cache: counters of the cache.
        prefill_tokens: prompt tokens computed, those of resumed sequences included.
        decode_tokens: tokens sampled.
        steps: forward passes.
        step_s: seconds spent in steps, all included.
        control_s: seconds of those spent in the control plane: matching, allocating,
            evicting, publishing, scheduling.
        block_waste: mean share of allocated KV slots that held no token, over steps.
        preemptions: sequences that had to give their blocks back and were resumed.
        running, waiting, loading: sequences now.
        batch_invariant: answers do not depend on what else runs, nor on what was cached.
        variance: why they may, by rounding; empty if they do not.
    """

    cache: CacheStats
    prefill_tokens: int
    decode_tokens: int
    steps: int
    step_s: float
    control_s: float
    block_waste: float
    preemptions: int
    running: int
    waiting: int
    loading: int
    batch_invariant: bool
    variance: str
