"""Amounts of memory and lengths of contexts as people write them."""

from __future__ import annotations

import re

__all__ = ["parse_bytes", "parse_context"]

_CONTEXT = re.compile(r"(\d+(?:\.\d+)?)\s*([km]?)", re.IGNORECASE)
_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_context(name: str, text: str) -> int:
    """`32768`, `32k` or `1M` tokens, k being 1,024 as is usual for contexts.

    Raises:
        ValueError: naming the option `name` and the text, if it is no number of at least 1.
    """
    match = _CONTEXT.fullmatch(text.strip().replace(",", ""))
    if match is None:
        raise ValueError(f"{name} is {text!r}; a number of tokens such as 8192 or 32k is needed")
    return _whole(name, text, match[1], 1024 ** _POWERS[match[2].lower()])


def parse_bytes(name: str, text: str, *, least: int = 1) -> int:
    """`80GB` (10^9), `80GiB` (2^30) or plain bytes, at least so many; errors as `parse_context`."""
    match = _BYTES.fullmatch(text.strip().replace(",", ""))
    if match is None:
        raise ValueError(f"{name} is {text!r}; a size such as 80GB or 74.5GiB is needed")
    return _whole(name, text, match[1], (1024 if match[3] else 1000) ** _POWERS[match[2].lower()], least)


def _whole(name: str, text: str, number: str, unit: int, least: int = 1) -> int:
    value = round(float(number) * unit)
    if value < least:
        raise ValueError(f"{name} is {text!r}; at least {least} is needed")
    return value
