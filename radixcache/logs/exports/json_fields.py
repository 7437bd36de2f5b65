"""Fields that an export holds as JSON, sometimes as text of JSON."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["unpacked"]


def unpacked(value: Any) -> Any:
    """A value, parsed where it is the text of an object or a list; other text as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
