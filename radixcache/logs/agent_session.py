"""Agent sessions: a JSON document a session, its requests as hashes of the prompts' blocks.

The format of kv-cache-tester's traces: `requests[]` with `type` `n` or `s` (streamed), `in` and `out` in
tokens, `t` in seconds since the session began, and `hash_ids`, one for each whole block of `block_size`
tokens. An entry of type `subagent` holds requests of its own, which belong to the same session. Ids mean the
same only within a document, unless its `hash_id_scope` is `global`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from radixcache.logs.fields import describe
from radixcache.logs.hashes import parse_hash_ids, parse_length
from radixcache.logs.record import BadLine, BlockTrace, InvalidRecordError, LogRequest

__all__ = ["is_agent_session", "parse_agent_session"]

_BLOCK_TOKENS = 64
_DEPTH_LIMIT = 32
_GLOBAL = "hash_id_scope: global"


def is_agent_session(record: dict[str, Any]) -> bool:
    """Whether a record is a session: a list of requests with a length or with requests of their own."""
    requests = record.get("requests")
    if not isinstance(requests, list):
        return False
    return not requests or any(isinstance(r, dict) and ("in" in r or "requests" in r) for r in requests)


def parse_agent_session(source: str, line: int, record: dict[str, Any]) -> Iterator[LogRequest | BadLine]:
    """The requests of a document in the order of the file, a bad one as the `BadLine` it is.

    Raises:
        InvalidRecordError: if the document itself is no session; the message names the field.
    """
    block_tokens = parse_length(record, "block_size", least=1) if "block_size" in record else _BLOCK_TOKENS
    kind = record.get("hash_id_scope")
    if kind not in (None, "local", "global"):
        what = repr(kind[:40]) if isinstance(kind, str) else describe(kind)
        raise InvalidRecordError(f"hash_id_scope is {what}; local or global is needed")
    name = record.get("id")
    session = str(name) if isinstance(name, str | int) else f"{source}:{line}"
    shared = kind == "global"
    scope, namespace = (_GLOBAL, "") if shared else (f"{source}:{line}", session)
    for field, entry in _entries("requests", record["requests"], 0):
        try:
            blocks = _blocks(entry, block_tokens, scope, namespace)
            yield _request(source, line, entry, session, blocks)
        except InvalidRecordError as error:
            yield BadLine(source, line, f"{field}: {error}")


def _entries(name: str, requests: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """The requests of a list and of the subagents in it, each with its place."""
    if not isinstance(requests, list):
        yield name, InvalidRecordError(f"is {describe(requests)}, not a list")
        return
    if depth > _DEPTH_LIMIT:
        yield name, InvalidRecordError("nested too deeply")
        return
    for i, entry in enumerate(requests):
        if isinstance(entry, dict) and entry.get("type") == "subagent":
            yield from _entries(f"{name}[{i}].requests", entry.get("requests"), depth + 1)
        else:
            yield f"{name}[{i}]", entry


def _blocks(entry: Any, block_tokens: int, scope: str, namespace: str) -> BlockTrace:
    if isinstance(entry, InvalidRecordError):
        raise entry
    if not isinstance(entry, dict):
        raise InvalidRecordError(f"is {describe(entry)}, not an object")
    prompt_tokens = parse_length(entry, "in", least=1)
    return BlockTrace(
        hash_ids=parse_hash_ids({"hash_ids": [], **entry}, prompt_tokens, block_tokens),
        block_tokens=block_tokens,
        prompt_tokens=prompt_tokens,
        output_tokens=parse_length(entry, "out", least=0),
        scope=scope,
        namespace=namespace,
    )


def _request(source: str, line: int, entry: dict[str, Any], session: str, blocks: BlockTrace) -> LogRequest:
    return LogRequest(
        source=source,
        line=line,
        messages=None,
        tools=None,
        prompt=None,
        prompt_token_ids=None,
        session=session,
        timestamp=_seconds(entry.get("t")),
        max_tokens=None,
        response=None,
        raw=entry,
        blocks=blocks,
    )


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRecordError(f"t is {describe(value)}, not a number of seconds")
    if not math.isfinite(value) or value < 0:
        raise InvalidRecordError(f"t is {value}; at least 0 is needed")
    return float(value)
