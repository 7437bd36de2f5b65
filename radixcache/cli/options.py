"""Options that several commands share, and the parsers that name an option in every error."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from radixcache.errors import RadixCacheError
from radixcache.sizes import MOST_COUNT, parse_bytes, parse_count

__all__ = [
    "Arrivals",
    "ArrivalsOption",
    "BlockSizeOption",
    "BlockSizesOption",
    "CapacityOption",
    "DTYPES",
    "DecodeSpeedOption",
    "InterleaveOption",
    "NamespaceByOption",
    "OptionError",
    "OutputsOption",
    "POLICIES",
    "RepeatOption",
    "SpeedOption",
    "WholeBlocksOption",
    "count",
    "memory",
    "positive",
]

POLICIES = "arc, auto, density, gdsf, lfu, lru, s3fifo, slru"
DTYPES = "fp32, fp16, bf16, fp8, int8, int4, fp4"


class OptionError(RadixCacheError):
    """An option's value cannot be used: names the option, the value and what it must be."""


def count(name: str, *, least: int = 1, most: int = MOST_COUNT) -> Callable[[Any], int]:
    """A parser of whole numbers such as 3000 or 10k, for typer; OptionError names the option."""

    def parse(value: Any) -> int:
        text = str(value)
        try:
            if text.startswith("-") and text[1:].isdecimal():
                raise ValueError(f"{name} must be at least {least:,}, got {text}")
            return parse_count(name, text, least=least, most=most)
        except ValueError as error:
            raise OptionError(str(error)) from None

    return parse


def positive(name: str, *, zero: bool = False) -> Callable[[Any], float]:
    """A parser of finite numbers above 0, or from 0 on; OptionError names the option."""

    def parse(value: Any) -> float:
        try:
            number = float(value)
        except ValueError:
            raise OptionError(f"{name} must be a number, got {value!r}") from None
        if not (math.isfinite(number) and (number >= 0 if zero else number > 0)):
            limit = "at least 0" if zero else "above 0"
            raise OptionError(f"{name} must be a finite number {limit}, got {number:g}")
        return number

    return parse


def memory(name: str, *, least: int = 1) -> Callable[[Any], int]:
    """A parser of sizes such as 80GB or 80GiB, in bytes; OptionError names the option."""

    def parse(value: Any) -> int:
        try:
            return parse_bytes(name, str(value), least=least)
        except ValueError as error:
            raise OptionError(str(error)) from None

    return parse


class Arrivals(StrEnum):
    CLOSED = "closed"
    TIMESTAMPS = "timestamps"


_CAPACITY = "Blocks in the cache: 3000, 10k (10,000), 1.5M or unbounded."
_BLOCK_SIZE = "Tokens in a block; by default 16, or for hashes what one stands for."

CapacityOption = Annotated[str, typer.Option(metavar="N", help=_CAPACITY)]
CapacitiesOption = Annotated[str, typer.Option("--capacity", metavar="N,…", help=_CAPACITY)]
BlockSizeOption = Annotated[
    int | None,
    typer.Option(metavar="N", parser=count("--block-size"), help=_BLOCK_SIZE, show_default=False),
]
BlockSizesOption = Annotated[
    str | None,
    typer.Option("--block-size", metavar="N,…", help=_BLOCK_SIZE, show_default=False),
]
WholeBlocksOption = Annotated[
    bool,
    typer.Option("--whole-blocks", help="Reuse whole blocks only, as many engines and published rates do."),
]
OutputsOption = Annotated[
    bool, typer.Option("--outputs", help="Cache logged answers, too, as an engine does.")
]
ArrivalsOption = Annotated[
    Arrivals,
    typer.Option(
        help="One request after another, or at the recorded times, where requests hold their blocks while "
        "they run."
    ),
]
SpeedOption = Annotated[
    float,
    typer.Option(
        metavar="X",
        parser=positive("--speed"),
        help="Recorded times pass X times faster, for arrivals by timestamp.",
    ),
]
DecodeSpeedOption = Annotated[
    float,
    typer.Option(
        metavar="X",
        parser=positive("--decode-speed"),
        help="Answer tokens a second, for arrivals by timestamp.",
    ),
]
InterleaveOption = Annotated[
    int | None,
    typer.Option(
        metavar="N", parser=count("--interleave"), help="Interleave N sessions.", show_default=False
    ),
]
RepeatOption = Annotated[
    int,
    typer.Option(metavar="N", parser=count("--repeat", most=1_000_000), help="Read the log N times over."),
]
NamespaceByOption = Annotated[
    str | None,
    typer.Option(
        metavar="FIELD",
        help="Requests share the cache only where this field (dotted path) is equal.",
        show_default=False,
    ),
]
