"""Reports with every text replaced, wherever it stands."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

__all__ = ["KEPT_FIELDS", "planted"]

# Without these a report is none, or its own parts do not find each other; they are no text from a log.
KEPT_FIELDS = ("schema", "columns", "run", "cache", "policy", "verdict")


def planted(value: Any, texts: Sequence[str], kept: Sequence[str] = KEPT_FIELDS) -> Any:
    """A copy in which each text is one of `texts`, in turn, and keys of tables of counts are, too."""
    following = cycle(texts)

    def plant(part: Any, field: str) -> Any:
        if field in kept:
            return part
        if isinstance(part, str):
            return next(following)
        if isinstance(part, dict):
            named = field in ("misses", "versions")
            return {next(following) if named else key: plant(item, key) for key, item in part.items()}
        if isinstance(part, list):
            return [plant(item, field) for item in part]
        return part

    return plant(value, "")
