"""Mooncake traces: a line a request, the prompt as hashes of its blocks.

The format of the traces that Mooncake published (FAST '25): `hash_ids`, `input_length`, `output_length` and
`timestamp` in milliseconds. A hash names a block and everything before it; there are
`ceil(input_length / 512)`, so the last one may stand for a block that is not full. Ids count anew in every
trace.
"""

from __future__ import annotations

from typing import Any

from radixcache.logs.fields import describe
from radixcache.logs.hashes import parse_hash_ids, parse_length
from radixcache.logs.record import BlockTrace, InvalidRecordError

__all__ = ["MOONCAKE_BLOCK_TOKENS", "parse_milliseconds", "parse_mooncake"]

MOONCAKE_BLOCK_TOKENS = 512
"""Tokens a hash of the published traces stands for."""


def parse_mooncake(record: dict[str, Any], source: str, block_tokens: int) -> BlockTrace:
    """The blocks of one line; `source` is the scope of its ids.

    Raises:
        InvalidRecordError: naming the field and what is wrong with it.
    """
    prompt_tokens = parse_length(record, "input_length", least=1)
    hash_ids = parse_hash_ids(record, prompt_tokens, block_tokens)
    if len(hash_ids) != -(-prompt_tokens // block_tokens):
        raise InvalidRecordError(
            f"input_length is {prompt_tokens}, which is not {len(hash_ids)} blocks of {block_tokens} tokens "
            "as hash_ids says"
        )
    return BlockTrace(
        hash_ids=hash_ids,
        block_tokens=block_tokens,
        prompt_tokens=prompt_tokens,
        output_tokens=parse_length(record, "output_length", least=0),
        scope=source,
    )


def parse_milliseconds(record: dict[str, Any]) -> float | None:
    """`timestamp` in seconds; logged in milliseconds since the trace began. Null counts as absent.

    Raises:
        InvalidRecordError: if it is no number, or outside 0 to 1e18.
    """
    value = record.get("timestamp")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRecordError(f"timestamp is {describe(value)}, not a number of milliseconds")
    if not 0 <= value < 1e18:
        raise InvalidRecordError(f"timestamp is {describe(value)}, outside 0 to 1e18")
    return value / 1e3
