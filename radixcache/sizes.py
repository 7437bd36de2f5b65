"""Sizes as people write them: blocks, tokens of context, bytes of memory."""

from __future__ import annotations

import re

__all__ = ["parse_bytes", "parse_capacity", "parse_context", "parse_count", "parse_list"]

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_NUMBER = re.compile(r"(\d+(?:[_,]\d{3})*(?:\.\d+)?)\s*([kmg]?)", re.IGNORECASE)
_LIMIT = 2**31
_CONTEXT = re.compile(r"(\d+(?:\.\d+)?)\s*([km]?)", re.IGNORECASE)
_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_list(name: str, text: str) -> list[str]:
    """The parts of a comma-separated option; ValueError, naming it, for an empty part."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise ValueError(f"{name} is {text!r}; values separated by commas are needed")
    return parts


def parse_count(name: str, text: str) -> int:
    """A whole number of at least 1; ValueError names the option and the text."""
    if not text.isdecimal() or not int(text):
        raise ValueError(f"{name} is {text!r}; a whole number of at least 1 is needed")
    return int(text)


def parse_capacity(text: str) -> int | None:
    """A number of blocks, as `3000`, `10k` or `1.5M`; None for `unbounded`.

    Raises:
        ValueError: if it is no whole number of blocks between 1 and 2**31.
    """
    if text.lower() == "unbounded":
        return None
    found = _NUMBER.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            f"capacity is {text!r}; a number of blocks like 3000, 10k or 1.5M, or unbounded, is needed"
        )
    whole, _, fraction = found[1].replace("_", "").replace(",", "").partition(".")
    scale = _UNITS[found[2].lower()]
    blocks, rest = divmod(int(whole + fraction) * scale, int("1" + "0" * len(fraction)))
    if rest or not 0 < blocks < _LIMIT:
        raise ValueError(f"capacity is {text!r}; a whole number of blocks from 1 to {_LIMIT - 1} is needed")
    return blocks


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
