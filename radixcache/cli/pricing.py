"""Prices for `radixcache doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from radixcache.cli.options import positive

if TYPE_CHECKING:
    from radixcache.doctor.diagnosis.schema import Diagnosis
    from radixcache.pricing import PriceTable, PricingReport, SelfHosted

__all__ = ["GpuHourOption", "IntervalOption", "Pricing", "PricingOption", "read_pricing"]

_SHIPPED = "hosted"

PricingOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|hosted",
        help="What the log costs by the price tables in a TOML file, or by those of hosted models that come "
        "with the package.",
        show_default=False,
    ),
]
GpuHourOption = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        parser=positive("--gpu-hour"),
        help="What the log costs on machines of X an hour, at --prefill-speed.",
        show_default=False,
    ),
]
IntervalOption = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        parser=positive("--interval", zero=True),
        help="Seconds between requests if the log has no timestamps, for prices.",
    ),
]


@dataclass(frozen=True, slots=True)
class Pricing:
    """The price tables and machines to compute costs with."""

    tables: Sequence[PriceTable]
    own: SelfHosted | None
    interval_s: float

    def apply(self, diagnosis: Diagnosis) -> tuple[Diagnosis, PricingReport]:
        """The diagnosis with what the log costs, and what each finding stands for."""
        from radixcache.pricing import price_log

        report = price_log(
            diagnosis.table.spool,
            self.tables,
            interval_s=self.interval_s,
            self_hosted=self.own,
            cached_tokens=diagnosis.cached_tokens,
        )
        findings = [replace(f, money=self._money(f.tokens_lost)) for f in diagnosis.findings]
        return replace(diagnosis, findings=findings, pricing=report.to_json()), report

    def _money(self, tokens_lost: int) -> dict[str, Any]:
        """What it costs to compute tokens instead of reusing them: on own machines, or by the first table."""
        from radixcache.pricing import DEFAULT_CURRENCY

        currency = self.tables[0].currency if self.tables else DEFAULT_CURRENCY
        if self.own is not None:
            amount = tokens_lost / self.own.prefill_speed * self.own.gpu_hour / 3600
        else:
            prices = self.tables[0].prices
            amount = tokens_lost * (prices.input - prices.cache_read) / 1e6
        return {"currency": currency, "amount": amount}


def read_pricing(
    pricing: str | None, gpu_hour: float | None, prefill_speed: float | None, interval_s: float
) -> Pricing | None:
    """The prices asked for, or None; ValueError for what cannot be used."""
    if pricing is None and gpu_hour is None:
        return None
    if gpu_hour is not None and prefill_speed is None:
        raise ValueError("--gpu-hour needs --prefill-speed, the prompt tokens a second that were measured")

    from radixcache.pricing import SelfHosted, load_pricing

    tables: Sequence[PriceTable] = ()
    if pricing is not None:
        tables = load_pricing(None if pricing == _SHIPPED else Path(pricing))
    own = None
    if gpu_hour is not None and prefill_speed is not None:
        own = SelfHosted(gpu_hour, prefill_speed)
    return Pricing(tables, own, interval_s)
