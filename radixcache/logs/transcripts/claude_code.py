"""Sessions of Claude Code: what was said, one message or block of one a line, and the exact usage.

The system prompt and the tools are not in a transcript, so prompts are known in part. Usage tells how long
they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from radixcache.logs.bodies.anthropic import read_content
from radixcache.logs.fields import field_of, read_text
from radixcache.logs.format import Format, Line
from radixcache.logs.record import BadLine, Body, InvalidRecordError, LogRequest, Message
from radixcache.logs.rules import LineRules
from radixcache.logs.usage import read_usage

__all__ = ["ClaudeCode"]

_PARTIAL = "the transcript has neither the system prompt nor the tools"


@dataclass(slots=True)
class _Thread:
    """One line of conversation: a session, or a subagent's.

    Attributes:
        messages: said so far.
        answer: the blocks of the answer that is being read.
        first, last: its first and last line.
    """

    messages: list[Message] = field(default_factory=list)
    answer: list[Any] = field(default_factory=list)
    name: str | None = None
    first: Line | None = None
    last: Line | None = None


class ClaudeCode(Format):
    """Transcripts under `~/.claude/projects`. Subagents are sessions of their own within the session."""

    name = "claude code"
    fields = "sessionId, type and message"

    def __init__(self, rules: LineRules, trace_block: int | None) -> None:
        super().__init__(rules, trace_block)
        self._threads: dict[tuple[str, str], _Thread] = {}

    def claims(self, record: Mapping[str, Any]) -> bool:
        if "sessionId" in record and isinstance(record.get("type"), str):
            return "uuid" in record or "message" in record or "leafUuid" in record
        return record.get("type") in ("summary", "file-history-snapshot") and (
            "leafUuid" in record or "snapshot" in record
        )

    def read(self, line: Line) -> Iterator[LogRequest | BadLine]:
        record = line.record
        message = record.get("message")
        session = str(record.get("sessionId") or line.source)
        lane = str(record.get("agentId") or "") if record.get("isSidechain") else ""
        if record.get("isSidechain") and not lane:
            lane = "sidechain"
        thread = self._threads.setdefault((session, lane), _Thread())
        if record["type"] == "system" and record.get("subtype") == "compact_boundary":
            yield from self._answered(thread, session)
            thread.messages.clear()
        if (
            not isinstance(message, dict)
            or record["type"] not in ("user", "assistant")
            or record.get("isMeta")
        ):
            return
        if record["type"] == "user":
            yield from self._answered(thread, session)
            thread.messages += read_content("message.content", "user", message.get("content"))
            return
        name = read_text(message.get("id"))
        if thread.first is None or name != thread.name or name is None:
            yield from self._answered(thread, session)
            thread.name, thread.first = name, line
        thread.last = line
        content = message.get("content")
        thread.answer += [{"type": "text", "text": content}] if isinstance(content, str) else content or []

    def finish(self) -> Iterator[LogRequest | BadLine]:
        for (session, _), thread in self._threads.items():
            first = thread.first
            try:
                yield from self._answered(thread, session)
            except InvalidRecordError as error:
                assert first is not None
                yield BadLine(first.source, first.number, str(error))

    def _answered(self, thread: _Thread, session: str) -> Iterator[LogRequest]:
        """The request whose answer is complete, if one was being read."""
        first, last = thread.first, thread.last
        if first is None or last is None:
            return
        blocks, thread.answer, thread.first = thread.answer, [], None
        answer = list(read_content("message.content", "assistant", blocks))
        model = read_text(field_of(first.record, "message.model"))
        if thread.messages and model != "<synthetic>":
            response = {"role": "assistant", "content": blocks}
            yield self.request(
                first,
                Body(messages=list(thread.messages), model=model),
                session=session,
                time=first.record.get("timestamp"),
                response=response,
                usage=read_usage(field_of(last.record, "message.usage")),
                partial=_PARTIAL,
                own_record=True,
            )
        thread.messages += answer
