"""What a model's prefix cache can hold in a given amount of memory, and what a log would make of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from radixcache.curve.curve import exact_curve
from radixcache.plan.shape import ModelShape, dtype_bits
from radixcache.workload.order import arrange
from radixcache.workload.settings import SimulateSettings
from radixcache.workload.workload import LoggedCalls, default_block_size

__all__ = ["SCHEMA", "LogPlan", "Plan", "plan", "plan_for_log"]

SCHEMA = "radixcache.plan/1"


@dataclass(frozen=True, slots=True)
class LogPlan:
    """A log in the room of a plan, counted as `radixcache.curve.curve` does.

    Attributes:
        logs: the files read.
        requests: how many there are.
        prompt_tokens: tokens of their prompts.
        block_size: tokens a block.
        capacity_blocks: blocks that fit in the room.
        cached_tokens_whole_blocks, hit_rate: what LRU reuses in that room.
        saturation_blocks: the least room in blocks with the hit rate of an unbounded cache.
        saturation_bytes: the same in bytes.
        unbounded_hit_rate: that hit rate.
    """

    logs: tuple[str, ...]
    requests: int
    prompt_tokens: int
    block_size: int
    capacity_blocks: int
    cached_tokens_whole_blocks: int
    hit_rate: float
    saturation_blocks: int
    saturation_bytes: int
    unbounded_hit_rate: float


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that --json holds, documented in docs/plan-json.md. Sizes are bytes.

    Attributes:
        schema: `radixcache.plan/1`.
        model: as it was named.
        dtype: of keys and values.
        layers, kv_heads, head_dim: what a token is kept for; heads are None with latent attention.
        sliding_layers, sliding_window: layers that attend to a limited number of tokens, and that number.
        max_context: the longest sequence the model states, in tokens; None if it does not.
        bytes_per_token: keys and values of one token over all layers.
        gpu_memory: as given.
        weights: None if unknown; then all memory is taken for the cache.
        weights_from: `given`, `files` or `estimate`; None if unknown.
        cache_memory: what is left for keys and values; 0 if the weights do not fit.
        tokens: tokens that fit there.
        context: tokens a sequence.
        sequence_memory: keys and values of a sequence of that length, all of them kept.
        sequence_memory_windowed: the same if what sliding layers no longer attend to is dropped; None
            without such layers.
        sequences: sequences of that length that fit at once.
        log: the log in that room, None if none was given.
    """

    schema: str
    model: str
    dtype: str
    layers: int
    kv_heads: int | None
    head_dim: int | None
    sliding_layers: int
    sliding_window: int
    max_context: int | None
    bytes_per_token: int
    gpu_memory: int
    weights: int | None
    weights_from: str | None
    cache_memory: int
    tokens: int
    context: int
    sequence_memory: int
    sequence_memory_windowed: int | None
    sequences: int
    log: LogPlan | None = None


def plan(
    shape: ModelShape, *, gpu_memory: int, context: int, dtype: str | None = None, weights: int | None = None
) -> Plan:
    """What fits.

    Args:
        shape: the model.
        gpu_memory: bytes for weights and cache together.
        context: tokens a sequence.
        dtype: of keys and values; None takes the model's own.
        weights: bytes of the weights, if the shape does not know better.

    Raises:
        ValueError: if `dtype` is not known, or a size is below 1.
    """
    for name, value in (("gpu_memory", gpu_memory), ("context", context)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    dtype = dtype or shape.dtype
    bits = dtype_bits(dtype)
    per_token = shape.bytes_per_token(bits)
    known = shape.weights_bytes if weights is None else weights
    room = max(0, gpu_memory - (known or 0))
    tokens = room // per_token
    return Plan(
        schema=SCHEMA,
        model=shape.name,
        dtype=dtype,
        layers=shape.layers,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        sliding_layers=shape.sliding_layers,
        sliding_window=shape.sliding_window,
        max_context=shape.max_context,
        bytes_per_token=per_token,
        gpu_memory=gpu_memory,
        weights=known,
        weights_from=shape.weights_from if weights is None else "given",
        cache_memory=room,
        tokens=tokens,
        context=context,
        sequence_memory=context * per_token,
        sequence_memory_windowed=shape.windowed_bytes(context, bits) if shape.sliding_layers else None,
        sequences=tokens // context,
    )


def plan_for_log(
    workload: LoggedCalls,
    settings: SimulateSettings,
    room: Plan,
    *,
    logs: Iterable[str] = (),
    block_size: int | None = None,
) -> LogPlan:
    """The hit rate of a log in the room that a plan leaves.

    Args:
        workload: the log, from `load_workload`; ordered here.
        settings: how the requests come.
        room: the plan.
        logs: where the log comes from, for the report alone.
        block_size: tokens a block; None for `default_block_size`.

    Raises:
        ValueError: the block size is below 1 or no multiple of the workload's unit.
        LogError: a timestamp is needed and missing.
    """
    workload = arrange(workload, settings)
    block_size = default_block_size(workload) if block_size is None else block_size
    curve, _ = exact_curve(workload.calls, block_size, workload.unit_tokens)
    capacity = room.tokens // block_size
    return LogPlan(
        logs=tuple(logs),
        requests=curve.requests,
        prompt_tokens=curve.prompt_tokens,
        block_size=block_size,
        capacity_blocks=capacity,
        cached_tokens_whole_blocks=curve.cached_tokens(capacity),
        hit_rate=curve.hit_rate(capacity),
        saturation_blocks=curve.saturation,
        saturation_bytes=curve.saturation * block_size * room.bytes_per_token,
        unbounded_hit_rate=curve.hit_rate(curve.saturation),
    )
