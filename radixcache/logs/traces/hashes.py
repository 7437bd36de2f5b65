"""What the block-hash formats share: ids of blocks and lengths in tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from radixcache.logs.fields import describe
from radixcache.logs.record import InvalidRecordError

__all__ = ["parse_hash_ids", "parse_length", "wanted_block"]

_LENGTH_LIMIT = 2**31


def wanted_block(trace_block: int | None) -> int:
    """Tokens that a hash stands for where the trace does not say.

    Raises:
        InvalidRecordError: hashes are of no use to whoever reads the log.
    """
    if trace_block is None:
        raise InvalidRecordError("holds hashes of blocks, which can be simulated but not replayed")
    return trace_block


def parse_hash_ids(record: Mapping[str, Any], prompt_tokens: int, block_tokens: int) -> list[int | str]:
    """Check `hash_ids`: integers or texts, no more of them than the prompt has blocks, whole or begun.

    Raises:
        InvalidRecordError: naming the position of the first id that is none, or both lengths.
    """
    ids = record.get("hash_ids")
    if not isinstance(ids, list):
        raise InvalidRecordError(f"hash_ids is {describe(ids)}, not a list")
    if not set(map(type, ids)) <= {int, str}:
        for i, value in enumerate(ids):
            if type(value) not in (int, str):
                raise InvalidRecordError(f"hash_ids[{i}] is {describe(value)}, not an integer or a string")
    if len(ids) > -(-prompt_tokens // block_tokens):
        raise InvalidRecordError(
            f"hash_ids has {len(ids)} blocks of {block_tokens} tokens for a prompt of {prompt_tokens}"
        )
    return ids


def parse_length(record: Mapping[str, Any], name: str, *, least: int) -> int:
    """The number of tokens in the field `name`; absent or null it is 0, if that is enough.

    Raises:
        InvalidRecordError: if it is not an integer, below `least`, or 2**31 and more.
    """
    value = record.get(name)
    if value is None and least <= 0:
        return 0
    if value is None:
        raise InvalidRecordError(f"{name} is missing")
    if type(value) is not int:
        raise InvalidRecordError(f"{name} is {describe(value)}, not an integer")
    if value < least:
        raise InvalidRecordError(f"{name} is {describe(value)}; at least {least} is needed")
    if value >= _LENGTH_LIMIT:
        raise InvalidRecordError(f"{name} is {describe(value)}; fewer than {_LENGTH_LIMIT} can be read")
    return value
