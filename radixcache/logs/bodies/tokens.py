"""Prompts as lists of token ids."""

from __future__ import annotations

from typing import Any

from radixcache.logs.fields import describe
from radixcache.logs.record import InvalidRecordError

__all__ = ["check_token_ids"]

_LIMIT = 2**31


def check_token_ids(name: str, ids: Any) -> list[int]:
    """Check a list of token ids found under the field `name`.

    Raises:
        InvalidRecordError: naming the position and value of the first id that is none.
    """
    if not isinstance(ids, list):
        raise InvalidRecordError(f"{name} is {describe(ids)}, not a list")
    if not ids:
        raise InvalidRecordError(f"{name} is empty")
    # One pass in C decides the usual case; the slow loop only runs to name the culprit.
    if set(map(type, ids)) != {int} or min(ids) < 0 or max(ids) >= _LIMIT:
        for i, value in enumerate(ids):
            if type(value) is not int:
                raise InvalidRecordError(f"{name}[{i}] is {describe(value)}, not an integer")
            if not 0 <= value < _LIMIT:
                raise InvalidRecordError(f"{name}[{i}] is {describe(value)}, outside 0 to {_LIMIT - 1}")
    return ids
