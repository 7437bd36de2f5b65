"""Agent sessions: a JSON document a session, its requests as hashes of the prompts' blocks.

The format of kv-cache-tester's traces: `requests[]` with `type` `n` or `s` (streamed), `in` and `out` in
tokens, `t` in seconds since the session began, and `hash_ids`, one for each whole block of `block_size`
tokens. An entry of type `subagent` holds requests of its own, which belong to the same session. Ids mean the
same only within a document, unless its `hash_id_scope` is `global`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from radixcache.logs.fields import describe
from radixcache.logs.format import Format, Line
from radixcache.logs.record import BadLine, BlockTrace, Body, InvalidRecordError, LogRequest
from radixcache.logs.traces.hashes import parse_hash_ids, parse_length, wanted_block

__all__ = ["AgentSessions"]

_BLOCK_TOKENS = 64
_DEPTH_LIMIT = 32
_GLOBAL = "hash_id_scope: global"


class AgentSessions(Format):
    """Documents with `requests` that have a length, or requests of their own."""

    name = "agent sessions"
    fields = "requests with in, out and hash_ids"

    def claims(self, record: Mapping[str, Any]) -> bool:
        requests = record.get("requests")
        if not isinstance(requests, list):
            return False
        return not requests or any(isinstance(r, dict) and ("in" in r or "requests" in r) for r in requests)

    def read(self, line: Line) -> Iterator[LogRequest | BadLine]:
        """The requests of a document in the order of the file, a bad one as the `BadLine` it is."""
        wanted_block(self.trace_block)
        record, source = line.record, line.source
        block_tokens = (
            parse_length(record, "block_size", least=1) if "block_size" in record else _BLOCK_TOKENS
        )
        kind = record.get("hash_id_scope")
        if kind not in (None, "local", "global"):
            what = repr(kind[:40]) if isinstance(kind, str) else describe(kind)
            raise InvalidRecordError(f"hash_id_scope is {what}; local or global is needed")
        name = record.get("id")
        session = str(name) if isinstance(name, str | int) else f"{source}:{line.number}"
        shared = kind == "global"
        scope, namespace = (_GLOBAL, "") if shared else (f"{source}:{line.number}", session)
        for field, entry in _entries("requests", record["requests"], 0):
            try:
                blocks = _blocks(entry, block_tokens, scope, namespace)
                yield self.request(
                    line,
                    Body(),
                    session=session,
                    time=entry.get("t"),
                    time_unit="s",
                    blocks=blocks,
                    raw=entry,
                )
            except InvalidRecordError as error:
                yield BadLine(source, line.number, f"{field}: {error}")


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
