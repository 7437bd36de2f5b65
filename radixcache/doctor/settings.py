"""How the doctor simulates a log."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from radixcache.cache.eviction import make_policy
from radixcache.logs.namespace import check_namespace_field
from radixcache.ranges import check_positive
from radixcache.workload.settings import SimulateSettings

__all__ = ["DoctorSettings"]

_PREFILL_SPEED = 10_000.0


@dataclass(frozen=True, slots=True)
class DoctorSettings:
    """What the cache is, and how requests come to it.

    Attributes:
        capacity: blocks; None for a cache that evicts nothing that memory allows it to keep.
        policy: eviction policy.
        block_size: tokens in a block; None for 16, or for what a hash stands for in a trace.
        whole_blocks: only whole blocks are reused, as many engines do; else token by token.
        namespace_by: field of the record, dotted, whose value is the namespace.
        ttl: seconds after its last use at which a prefix is gone, as hosted caches have it; None for never.
        outputs: logged answers are cached, too.
        arrivals: `closed` for one request after another, `timestamps` for their recorded times.
        interleave: interleave this number of sessions; only for closed arrivals.
        prefill_speed: prompt tokens a second; for arrivals by timestamp, and to say what misses cost. None
            if unknown.
        decode_speed: answer tokens a second; only for arrivals by timestamp.
    """

    capacity: int | None = None
    policy: str = "lru"
    block_size: int | None = None
    whole_blocks: bool = False
    namespace_by: str | None = None
    ttl: float | None = None
    outputs: bool = False
    arrivals: Literal["closed", "timestamps"] = "closed"
    interleave: int | None = None
    prefill_speed: float | None = None
    decode_speed: float = 50.0

    def __post_init__(self) -> None:
        make_policy(self.policy)
        for name in ("capacity", "block_size", "interleave"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        for name in ("ttl", "prefill_speed", "decode_speed"):
            value = getattr(self, name)
            if value is not None:
                check_positive(name, value)
        if self.arrivals not in ("closed", "timestamps"):
            raise ValueError(f"arrivals must be closed or timestamps, got {self.arrivals!r}")
        if self.arrivals == "timestamps" and self.interleave is not None:
            raise ValueError("interleave reorders the log, so arrivals cannot be by timestamp")
        check_namespace_field(self.namespace_by)

    def simulation(self) -> SimulateSettings:
        """How requests are driven through the cache; they come in order already."""
        return SimulateSettings(
            arrivals=self.arrivals,
            prefill_speed=self.prefill_speed or _PREFILL_SPEED,
            decode_speed=self.decode_speed,
        )

    def to_json(self, tokenizer: str | None, block_size: int) -> dict[str, Any]:
        """As the report states it."""
        found = asdict(self)
        found["capacity_blocks"] = found.pop("capacity")
        return {"tokenizer": tokenizer, **found, "block_size": block_size}
