"""Traces of block hashes, a request a line: Mooncake's, Bailian's and those that say their block size.

Mooncake (FAST '25): `hash_ids`, `input_length`, `output_length` and `timestamp` in milliseconds. A hash names
a block of 512 tokens and everything before it; the last one may stand for a block that is not full. Bailian's
traces have blocks of 16, seconds, and a chain of chats. Ids count from the start in every trace.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from radixcache.logs.fields import read_text
from radixcache.logs.format import Format, Line, first_of, session_of
from radixcache.logs.record import BadLine, BlockTrace, Body, InvalidRecordError, LogRequest
from radixcache.logs.rules import LineRules
from radixcache.logs.traces.hashes import parse_hash_ids, parse_length, wanted_block

__all__ = ["MOONCAKE_BLOCK_TOKENS", "HashTrace"]

MOONCAKE_BLOCK_TOKENS = 512
"""Tokens a hash of the published traces stands for."""

_BAILIAN_BLOCK_TOKENS = 16
_LENGTHS = ("input_length", "input_tokens", "isl")
_OUTPUTS = ("output_length", "output_tokens", "osl", "max_tokens")
_TIMES = ("timestamp", "created_time")


class HashTrace(Format):
    """Lines with `hash_ids`. Without a length a prompt is as long as its blocks."""

    name = "block hashes"
    fields = "hash_ids, input_length (Mooncake, Bailian, AIPerf)"
    known = frozenset(
        """
        chat_id parent_chat_id timestamp created_time input_length output_length input_tokens
        output_tokens isl osl max_tokens type turn hash_ids block_size session_id session
        conversation_id thread_id delay delay_ms model priority tenant user id request_id
        """.split()  # noqa: SIM905 - words are easier to read
    )

    def __init__(self, rules: LineRules, trace_block: int | None) -> None:
        super().__init__(rules, trace_block)
        self._roots: dict[str, str] = {}

    def claims(self, record: Mapping[str, Any]) -> bool:
        return record.get("hash_ids") is not None

    def read(self, line: Line) -> Iterator[LogRequest | BadLine]:
        record = line.record
        bailian = "parent_chat_id" in record
        default = _BAILIAN_BLOCK_TOKENS if bailian else wanted_block(self.trace_block)
        wanted_block(self.trace_block)
        stated = "block_size" in record
        block_tokens = parse_length(record, "block_size", least=1) if stated else default
        blocks = _blocks(record, line.source, block_tokens)
        session = self._chat(record) if bailian else session_of(record)
        yield self.request(
            line,
            Body(),
            session=session,
            time=first_of(_TIMES, record),
            time_unit="s" if bailian or stated else "ms",
            blocks=blocks,
        )

    def _chat(self, record: Mapping[str, Any]) -> str | None:
        """The chat that began the chain which a request belongs to."""
        name, parent = read_text(record.get("chat_id")), read_text(record.get("parent_chat_id"))
        if name is None:
            return None
        root = name if parent in (None, "-1") else self._roots.get(parent, parent)
        self._roots[name] = root
        return root


def _blocks(record: Mapping[str, Any], source: str, block_tokens: int) -> BlockTrace:
    length = next((name for name in _LENGTHS if record.get(name) is not None), None)
    hashes = record["hash_ids"]
    if length is None and isinstance(hashes, list):
        prompt_tokens = len(hashes) * block_tokens
        if not hashes:
            raise InvalidRecordError("input_length is missing")
    else:
        prompt_tokens = parse_length(record, length or _LENGTHS[0], least=1)
    hash_ids = parse_hash_ids(record, prompt_tokens, block_tokens)
    if len(hash_ids) != -(-prompt_tokens // block_tokens):
        raise InvalidRecordError(
            f"{length} is {prompt_tokens}, which is not {len(hash_ids)} blocks of {block_tokens} tokens "
            "as hash_ids says"
        )
    output = next((name for name in _OUTPUTS if record.get(name) is not None), _OUTPUTS[0])
    return BlockTrace(
        hash_ids=hash_ids,
        block_tokens=block_tokens,
        prompt_tokens=prompt_tokens,
        output_tokens=parse_length(record, output, least=0),
        scope=source,
    )
