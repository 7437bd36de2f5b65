"""How a log is simulated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from radixcache.logs.namespace import check_namespace_field
from radixcache.ranges import check_positive

__all__ = ["SimulateSettings"]


@dataclass(frozen=True, slots=True)
class SimulateSettings:
    """What a simulation is asked to do, apart from the caches it compares.

    Attributes:
        arrivals: `closed` runs one request after another; `timestamps` lets them come at their recorded
            times and hold their blocks for as long as they take.
        speed: factor by which recorded time passes faster; only for timestamps.
        prefill_speed: prompt tokens computed a second, for each request; only for timestamps.
        decode_speed: tokens answered a second, for each request; only for timestamps.
        interleave: number of sessions to interleave; None keeps the log's order. Only for closed arrivals.
        repeat: the log is repeated this number of times; later times find what earlier ones left.
        namespace_by: field of the record, dotted, whose value is the request's cache namespace.
        outputs: logged answers are cached, too, as an engine does; else prompts only.
        whole_blocks: only by the rule of published hit rates: whole blocks, up to the last one of a prompt.
    """

    arrivals: Literal["closed", "timestamps"] = "closed"
    speed: float = 1.0
    prefill_speed: float = 10_000.0
    decode_speed: float = 50.0
    interleave: int | None = None
    repeat: int = 1
    namespace_by: str | None = None
    outputs: bool = False
    whole_blocks: bool = False

    def __post_init__(self) -> None:
        if self.arrivals not in ("closed", "timestamps"):
            raise ValueError(f"arrivals must be closed or timestamps, got {self.arrivals!r}")
        for name in ("interleave", "repeat"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        for name in ("speed", "prefill_speed", "decode_speed"):
            check_positive(name, getattr(self, name))
        if self.arrivals == "timestamps" and self.interleave is not None:
            raise ValueError("interleave reorders the log, so arrivals cannot be by timestamp")
        check_namespace_field(self.namespace_by)
