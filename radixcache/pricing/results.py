"""The cost of a log: the schema of its JSON, documented in docs/pricing.md."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from radixcache.pricing.errors import PricingError
from radixcache.ranges import check_positive

__all__ = ["PricedProvider", "PricedSelfHosted", "PricingReport", "SelfHosted"]


@dataclass(frozen=True, slots=True)
class SelfHosted:
    """Your own machines.

    Attributes:
        gpu_hour: cost of an hour of what serves the model, in the currency of the tables.
        prefill_speed: prompt tokens it computes a second, as measured.
    """

    gpu_hour: float
    prefill_speed: float

    def __post_init__(self) -> None:
        for name, value in (("gpu_hour", self.gpu_hour), ("prefill_speed", self.prefill_speed)):
            try:
                check_positive(name, value)
            except ValueError as error:
                raise PricingError(str(error)) from None


@dataclass(frozen=True, slots=True)
class PricedProvider:
    """The log by one price table. `cost` is the sum of the four costs; saved = uncached - cost.

    Attributes:
        name: of the table.
        cost: money with the provider's cache.
        uncached: money if nothing were cached or written.
        saved, saved_share: what the cache brings, and as a share of `uncached`; negative where writes cost
            more than reads bring.
        cached_tokens, written_tokens, plain_tokens: prompt tokens read, written at a separate price, and
            neither; they add up to the log's prompt tokens.
        output_tokens: tokens of the answers that the log tells of.
        cost_input, cost_reads, cost_writes, cost_output: the cost, apart.
        rules: the table's rules in a line.
        as_of: date of the table, ISO 8601.
        source, rules_source, note: of the table.
    """

    name: str
    cost: float
    uncached: float
    saved: float
    saved_share: float
    cached_tokens: int
    written_tokens: int
    plain_tokens: int
    output_tokens: int
    cost_input: float
    cost_reads: float
    cost_writes: float
    cost_output: float
    rules: str
    as_of: str
    source: str
    rules_source: str
    note: str


@dataclass(frozen=True, slots=True)
class PricedSelfHosted:
    """Prefill of the log on your own machines; answers cost the same with a cache or without.

    Attributes:
        gpu_hour, prefill_speed: as given.
        cached_tokens: tokens that a cache without limits saves.
        uncached, cost, saved, saved_share: money for the prefill, as in `PricedProvider`.
        uncached_s, cost_s: seconds of prefill.
    """

    gpu_hour: float
    prefill_speed: float
    cached_tokens: int
    uncached: float
    cost: float
    saved: float
    saved_share: float
    uncached_s: float
    cost_s: float


@dataclass(frozen=True, slots=True)
class PricingReport:
    """What a log costs.

    Attributes:
        currency: of all money.
        uncached: money without any cache by the first table; each provider has its own.
        prompt_tokens, output_tokens: of the log.
        providers: one a table, in the order of the tables.
        self_hosted: None unless asked for.
        assumptions: what was taken for granted, a sentence each.
    """

    currency: str
    uncached: float
    prompt_tokens: int
    output_tokens: int
    providers: tuple[PricedProvider, ...]
    self_hosted: PricedSelfHosted | None
    assumptions: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The report as JSON's objects, lists, texts and numbers."""
        found = asdict(self)
        return {**found, "providers": list(found["providers"]), "assumptions": list(self.assumptions)}
