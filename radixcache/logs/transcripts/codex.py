"""Sessions of Codex: items of the Responses API, and the exact usage after each answer.

The instructions and the tools are not all in a rollout, so prompts are known in part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from radixcache.logs.bodies.responses import read_items
from radixcache.logs.fields import field_of, read_text
from radixcache.logs.format import Format, Line
from radixcache.logs.record import BadLine, Body, LogRequest
from radixcache.logs.rules import LineRules
from radixcache.logs.usage import read_usage

__all__ = ["Codex"]

_KINDS = (
    "session_meta",
    "turn_context",
    "response_item",
    "event_msg",
    "compacted",
    "ghost_snapshot",
    "world_state",
)
_PARTIAL = "the rollout does not have all instructions and tools"
_OUTPUTS = ("function_call", "custom_tool_call", "local_shell_call", "reasoning", "web_search_call")


class _Session:
    """A rollout: its items, and where the answer that is being given begins."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.model: str | None = None
        self.items: list[dict[str, Any]] = []
        self.answered = 0


class Codex(Format):
    """Rollouts under `~/.codex/sessions`."""

    name = "codex"
    fields = "type session_meta, response_item or event_msg, with payload"

    def __init__(self, rules: LineRules, trace_block: int | None) -> None:
        super().__init__(rules, trace_block)
        self._sessions: dict[str, _Session] = {}

    def claims(self, record: Mapping[str, Any]) -> bool:
        return record.get("type") in _KINDS and isinstance(record.get("payload"), dict)

    def read(self, line: Line) -> Iterator[LogRequest | BadLine]:
        record, payload = line.record, line.record["payload"]
        session = self._sessions.setdefault(line.source, _Session(line.source))
        if record["type"] == "session_meta":
            session.name = str(payload.get("id") or session.name)
            if isinstance(
                text := field_of(payload, "base_instructions.text") or payload.get("instructions"), str
            ):
                session.items.append({"type": "message", "role": "system", "content": text})
        elif record["type"] == "turn_context":
            session.model = read_text(payload.get("model")) or session.model
        elif record["type"] == "compacted":
            history = payload.get("replacement_history")
            session.items = list(history) if isinstance(history, list) else []
            session.answered = len(session.items)
        elif record["type"] == "response_item":
            session.items.append(payload)
        elif payload.get("type") == "token_count" and isinstance(payload.get("info"), dict):
            yield from self._request(line, session, payload["info"])

    def _request(self, line: Line, session: _Session, info: dict[str, Any]) -> Iterator[LogRequest]:
        place = len(session.items)
        while place > session.answered and _is_output(session.items[place - 1]):
            place -= 1
        output, session.answered = session.items[place:], len(session.items)
        if not output or not place:
            return  # the counts are told again without a request
        messages = list(read_items("payload", session.items[:place]))
        yield self.request(
            line,
            Body(messages=messages, model=session.model),
            session=session.name,
            time=line.record.get("timestamp"),
            response={"output": output},
            usage=read_usage(info.get("last_token_usage")),
            partial=_PARTIAL,
            own_record=True,
        )


def _is_output(item: Any) -> bool:
    if not isinstance(item, dict):
        return False
    return item.get("role") == "assistant" or item.get("type") in _OUTPUTS
