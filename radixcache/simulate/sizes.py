"""Numbers as people write them."""

from __future__ import annotations

import re

__all__ = ["parse_capacity", "parse_count", "parse_list"]

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_NUMBER = re.compile(r"(\d+(?:[_,]\d{3})*(?:\.\d+)?)\s*([kmg]?)", re.IGNORECASE)
_LIMIT = 2**31


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
