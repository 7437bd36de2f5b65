"""How a log is replayed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from radixcache.logs.namespace import check_namespace_field
from radixcache.ranges import check_positive

__all__ = ["ReplaySettings"]


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """What a replay is asked to do.

    Attributes:
        cache: the prefix cache on, off, or one run of each.
        max_tokens: the most new tokens for a request; the log's own number applies where it is smaller.
        arrivals: `closed` keeps `concurrency` requests in flight; `timestamps` submits at recorded times.
        concurrency: requests in flight; only for closed arrivals.
        speed: factor by which recorded time passes faster; only for timestamps.
        interleave: number of sessions to interleave; None keeps the log's order. Only for closed arrivals.
        namespace_by: field of the record, dotted, whose value is the request's cache namespace.
        ignore_eos: generate to the limit even if the model ends its answer.
    """

    cache: Literal["on", "off", "compare"] = "compare"
    max_tokens: int = 16
    arrivals: Literal["closed", "timestamps"] = "closed"
    concurrency: int = 1
    speed: float = 1.0
    interleave: int | None = None
    namespace_by: str | None = None
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        for name, values in (("cache", ("on", "off", "compare")), ("arrivals", ("closed", "timestamps"))):
            if getattr(self, name) not in values:
                raise ValueError(f"{name} must be one of {', '.join(values)}, got {getattr(self, name)!r}")
        for name in ("max_tokens", "concurrency", "interleave"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        check_positive("speed", self.speed)
        if self.arrivals == "timestamps" and self.interleave is not None:
            raise ValueError("interleave reorders the log, so arrivals cannot be by timestamp")
        check_namespace_field(self.namespace_by)
