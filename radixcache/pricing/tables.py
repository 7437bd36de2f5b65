"""Price tables: what a token costs by how it was had, and the rules by which a provider's cache keeps it."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from radixcache.pricing.errors import PricingError

__all__ = ["PriceTable", "Prices", "load_pricing"]

Marking = Literal["automatic", "breakpoints"]

_SHIPPED = Path(__file__).with_name("tables.toml")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LIFETIME = re.compile(r"(\d{1,9})([smhd])")
_MILLION = 1e6
_PRICES = ("input", "cache_read", "cache_write", "output")
_TEXTS = ("source", "rules_source", "note")
_FIELDS = {
    *_PRICES,
    *_TEXTS,
    "minimum",
    "granularity",
    "lifetime",
    "refreshed",
    "marking",
    "max_breakpoints",
    "lookback",
    "as_of",
    "long",
}


@dataclass(frozen=True, slots=True)
class Prices:
    """Money for a million tokens.

    Attributes:
        input: a prompt token that is neither read from the cache nor written to it at a price of its own.
        cache_read: a prompt token that was cached.
        cache_write: a prompt token that is put into the cache; None where that costs nothing extra.
        output: a token of the answer.
    """

    input: float
    cache_read: float
    cache_write: float | None
    output: float

    def cost(self, plain: int, read: int, written: int, output: int) -> tuple[float, float, float, float]:
        """Money for so many tokens of each kind: input, reads, writes, output."""
        write = self.input if self.cache_write is None else self.cache_write
        return (
            plain * self.input / _MILLION,
            read * self.cache_read / _MILLION,
            written * write / _MILLION,
            output * self.output / _MILLION,
        )


@dataclass(frozen=True, slots=True)
class PriceTable:
    """One model of one provider, with one lifetime.

    Attributes:
        name: what it is called in reports.
        currency: of every price.
        prices: for prompts of up to `long_above` tokens.
        long_above: prompts of more tokens cost `long_prices`; None where length makes no difference.
        long_prices: all four prices of long prompts.
        minimum: tokens that a cached prefix has at least.
        granularity: a cached prefix is a multiple of so many tokens.
        lifetime_s: seconds until a prefix that nobody uses is gone; None where no figure is published.
        refreshed: a use restarts the lifetime; else it counts from the writing.
        marking: `automatic` reuses whatever earlier prompts began with; `breakpoints` only prefixes that end
            where an earlier request had marked one.
        max_breakpoints: marks a request may set.
        lookback: so many ends of messages before a mark are looked up, too.
        as_of: when the figures stood there.
        source: where the prices are published.
        rules_source: where the rules are.
        note: what else one should know.
    """

    name: str
    currency: str
    prices: Prices
    long_above: int | None
    long_prices: Prices | None
    minimum: int
    granularity: int
    lifetime_s: float | None
    refreshed: bool
    marking: Marking
    max_breakpoints: int
    lookback: int
    as_of: date
    source: str
    rules_source: str
    note: str

    def prices_for(self, prompt_tokens: int) -> Prices:
        """The prices of a prompt of this length."""
        if self.long_above is None or self.long_prices is None or prompt_tokens <= self.long_above:
            return self.prices
        return self.long_prices

    @property
    def rules(self) -> str:
        """The rules in a line: `from 1,024 tokens, in steps of 128, kept 5 minutes after use, automatic`."""
        parts = [f"from {self.minimum:,} tokens" if self.minimum > 1 else "any length"]
        if self.granularity > 1:
            parts.append(f"in steps of {self.granularity}")
        if self.lifetime_s is None:
            parts.append("lifetime not published")
        else:
            parts.append(f"kept {_duration(self.lifetime_s)} after {'use' if self.refreshed else 'writing'}")
        parts.append("automatic" if self.marking == "automatic" else "at marked breakpoints")
        if self.prices.cache_write is not None and self.prices.input:
            parts.append(f"writes {self.prices.cache_write / self.prices.input:.3g}x")
        if self.prices.input:
            parts.append(f"reads {self.prices.cache_read / self.prices.input:.3g}x")
        return ", ".join(parts)


def load_pricing(path: Path | None = None) -> tuple[PriceTable, ...]:
    """Read a file of price tables; without one those that come with the package.

    Raises:
        PricingError: naming the file, the table, the field and its value.
    """
    file = path or _SHIPPED
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise PricingError(f"{file} cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PricingError(f"{file} is no TOML: {error}") from None
    for name in document:
        if name not in ("currency", "tables"):
            raise PricingError(f"{file}, {name}: is no field of a price file; currency and tables are")
    currency = document.get("currency")
    if not isinstance(currency, str) or not currency.strip():
        raise PricingError(f"{file}, currency: must be a text such as USD, {_shown(currency)}")
    tables = document.get("tables")
    if not isinstance(tables, dict) or not tables:
        raise PricingError(f"{file}, tables: must hold at least one table [tables.NAME], {_shown(tables)}")
    return tuple(
        _Reader(f"{file}, table {name!r}", fields).table(name, currency) for name, fields in tables.items()
    )


class _Reader:
    """Takes the fields of one table; every complaint says which and what it was."""

    def __init__(self, where: str, fields: Any) -> None:
        if not isinstance(fields, dict):
            raise PricingError(f"{where}: must be a table of fields, {_shown(fields)}")
        self._where = where
        self._fields = fields

    def table(self, name: str, currency: str) -> PriceTable:
        self._known(_FIELDS)
        long = self._fields.get("long")
        reader = None if long is None else _Reader(f"{self._where}, long", long)
        if reader is not None:
            reader._known({*_PRICES, "above"})
        return PriceTable(
            name=name,
            currency=currency,
            prices=self._prices(),
            long_above=None if reader is None else reader._count("above", None),
            long_prices=None if reader is None else reader._prices(),
            minimum=self._count("minimum", 1),
            granularity=self._count("granularity", 1),
            lifetime_s=self._lifetime(),
            refreshed=self._flag("refreshed", default=True),
            marking=self._marking(),
            max_breakpoints=self._count("max_breakpoints", 4),
            lookback=self._count("lookback", 20),
            as_of=self._date(),
            source=self._text("source"),
            rules_source=self._text("rules_source", ""),
            note=self._text("note", ""),
        )

    def _known(self, names: set[str]) -> None:
        for name in self._fields:
            if name not in names:
                raise PricingError(
                    f"{self._where}, {name}: is no field; known are {', '.join(sorted(names))}"
                )

    def _prices(self) -> Prices:
        write = None if "cache_write" not in self._fields else self._price("cache_write")
        return Prices(self._price("input"), self._price("cache_read"), write, self._price("output"))

    def _price(self, name: str) -> float:
        value = self._fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._bad(name, "a price for a million tokens")
        if not (math.isfinite(value) and value >= 0):
            raise self._bad(name, "at least 0")
        return float(value)

    def _count(self, name: str, default: int | None) -> int:
        value = self._fields.get(name, default)
        if type(value) is not int or value < 1:
            raise self._bad(name, "a whole number of at least 1")
        return value

    def _flag(self, name: str, *, default: bool) -> bool:
        value = self._fields.get(name, default)
        if not isinstance(value, bool):
            raise self._bad(name, "true or false")
        return value

    def _lifetime(self) -> float | None:
        value = self._fields.get("lifetime")
        if value is None:
            return None
        found = _LIFETIME.fullmatch(value) if isinstance(value, str) else None
        if found is None or not int(found[1]):
            raise self._bad("lifetime", 'a text such as "5m", "1h" or "24h"')
        return float(int(found[1]) * _SECONDS[found[2]])

    def _marking(self) -> Marking:
        match self._fields.get("marking"):
            case "automatic":
                return "automatic"
            case "breakpoints":
                return "breakpoints"
        raise self._bad("marking", "automatic or breakpoints")

    def _date(self) -> date:
        value = self._fields.get("as_of")
        if type(value) is not date:
            raise self._bad("as_of", "a date such as 2026-10-25, without quotes")
        return value

    def _text(self, name: str, default: str | None = None) -> str:
        value = self._fields.get(name, default)
        if not isinstance(value, str) or (default is None and not value.strip()):
            raise self._bad(name, "a text")
        return value

    def _bad(self, name: str, needed: str) -> PricingError:
        return PricingError(f"{self._where}, {name}: must be {needed}, {_shown(self._fields.get(name))}")


def _shown(value: Any) -> str:
    return "but is missing" if value is None else f"got {repr(value)[:60]}"


def _duration(seconds: float) -> str:
    """`5 minutes`, `1 hour`, `24 hours`."""
    units: Sequence[tuple[str, int]] = (("hour", 3600), ("minute", 60), ("second", 1))
    unit, size = next((name, size) for name, size in units if size == 1 or not seconds % size)
    count = f"{seconds / size:g}"
    return f"{count} {unit}" if count == "1" else f"{count} {unit}s"
