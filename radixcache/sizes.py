"""Sizes as people write them: counts, blocks, tokens of context, bytes of memory.

`k`, `M` and `G` are 10^3, 10^6 and 10^9 everywhere but in a context, whose `k` is 1,024 and whose `M` is
1,024 of those, as models state theirs. Bytes take a unit: `4GB` is 4 x 10^9, `4GiB` is 4 x 2^30.
"""

from __future__ import annotations

import re
from fractions import Fraction

__all__ = ["GIB", "MOST_COUNT", "parse_bytes", "parse_capacity", "parse_context", "parse_count", "parse_list"]

GIB = 1 << 30
MOST_COUNT = 2**31 - 1
"""The most of anything that is counted one by one: token ids and blocks are 32 bits."""

_MOST_BYTES = 1 << 60
_LEAST_BYTES = 1 << 20
_DIGITS = r"(\d{1,30}(?:[_,]\d{3})*(?:\.\d{1,30})?)"
_COUNT = re.compile(rf"{_DIGITS}\s*([kmg]?)", re.IGNORECASE)
_CONTEXT = re.compile(rf"{_DIGITS}\s*([km]?)", re.IGNORECASE)
_BYTES = re.compile(rf"{_DIGITS}\s*(?:([kmgt]?)(i?)b?)", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_list(name: str, text: str) -> list[str]:
    """The parts of a comma-separated option; ValueError, naming it, for an empty part."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise ValueError(f"{name} must be values separated by commas, got {text!r}")
    return parts


def parse_count(name: str, text: str, *, least: int = 1, most: int = MOST_COUNT) -> int:
    """A whole number, as `3000`, `10k` or `1.5M`.

    Raises:
        ValueError: naming the option and the text, if it is not a whole number from `least` to `most`.
    """
    found = _COUNT.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{name} must be a whole number such as 3000, 10k or 1.5M, got {text!r}")
    value = _number(found[1]) * 1000 ** _POWERS[found[2].lower()]
    if value.denominator > 1:
        raise ValueError(f"{name} must be a whole number, got {text!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least:,}, got {text}")
    if value > most:
        raise ValueError(f"{name} must be at most {most:,}, got {text}")
    return int(value)


def parse_capacity(text: str, name: str = "capacity") -> int | None:
    """A number of blocks, as `parse_count`; None for `unbounded`."""
    return None if text.strip().lower() == "unbounded" else parse_count(name, text)


def parse_context(name: str, text: str) -> int:
    """`32768`, `32k` or `1M` tokens, k being 1,024 as is usual for contexts.

    Raises:
        ValueError: naming the option `name` and the text, if it is not a number from 1 to 2**31 - 1.
    """
    match = _CONTEXT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{name} must be a number of tokens such as 8192 or 32k, got {text!r}")
    value: int = round(_number(match[1]) * 1024 ** _POWERS[match[2].lower()])
    if not 1 <= value <= MOST_COUNT:
        raise ValueError(f"{name} must be from 1 to {MOST_COUNT:,}, got {text!r}")
    return value


def parse_bytes(name: str, text: str, *, least: int = 1) -> int:
    """`80GB` (10^9), `80GiB` (2^30), or plain bytes.

    Raises:
        ValueError: naming the option and the text, if it is not a size from `least` to 2**60 bytes, or has no
            unit and is so small that bytes cannot be meant.
    """
    match = _BYTES.fullmatch(text.strip())
    if match is None or (match[3] and not match[2]):
        raise ValueError(f"{name} must be a size such as 80GB or 74.5GiB, got {text!r}")
    value: int = round(_number(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2].lower()])
    number = match[1]
    if text.strip() == number and 0 < _number(number) < _LEAST_BYTES:
        raise ValueError(f"{name} must have a unit, such as {number}GB or {number}GiB, got {text!r}")
    if not least <= value <= _MOST_BYTES:
        raise ValueError(f"{name} must be from {least} byte{'s'[: least != 1]} to 1,024 PiB, got {text!r}")
    return value


def _number(digits: str) -> Fraction:
    return Fraction(digits.replace("_", "").replace(",", ""))
