"""ShareGPT and its like: a conversation a line; each answer of the model was a request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from radixcache.logs.bodies import read_body
from radixcache.logs.bodies.parts import as_list, as_object
from radixcache.logs.fields import describe
from radixcache.logs.format import Format, Line, time_of
from radixcache.logs.record import BadLine, InvalidRecordError, LogRequest, Message

__all__ = ["ShareGPT"]

_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "system": "system",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "function_call": "assistant",
}


class ShareGPT(Format):
    """Conversations as `from` and `value`."""

    name = "sharegpt"
    fields = "conversations with from and value"
    known = frozenset(
        """
        id conversations system tools model source dataset timestamp created_at language lang
        category hash
        """.split()  # noqa: SIM905 - words are easier to read
    )

    def claims(self, record: Mapping[str, Any]) -> bool:
        return isinstance(record.get("conversations"), list)

    def read(self, line: Line) -> Iterator[LogRequest | BadLine]:
        record = line.record
        system = record.get("system")
        messages: list[Message] = (
            [{"role": "system", "content": system}] if isinstance(system, str) and system else []
        )
        turns = as_list("conversations", record["conversations"])
        body = {key: record[key] for key in ("tools", "model") if isinstance(record.get(key), list | str)}
        if isinstance(body.get("tools"), str):
            del body["tools"]
        name = record.get("id")
        session = name if isinstance(name, str | int) else f"{line.source}:{line.number}"
        found = False
        for i, turn in enumerate(turns):
            message = _message(f"conversations[{i}]", as_object(f"conversations[{i}]", turn))
            if message["role"] == "assistant" and messages:
                found = True
                yield self.request(
                    line,
                    read_body({**body, "messages": list(messages)}),
                    session=session,
                    time=time_of(record),
                    response=message,
                    own_record=True,
                )
            messages.append(message)
        if not found:
            raise InvalidRecordError("conversations has no answer of the model after a question")


def _message(name: str, turn: Mapping[str, Any]) -> Message:
    who, said = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
    if not isinstance(who, str) or who.lower() not in _ROLES:
        raise InvalidRecordError(f"{name}.from is {who!r}, which is not a known role")
    if not isinstance(said, str):
        raise InvalidRecordError(f"{name}.value is {describe(said)}, not text")
    return {"role": _ROLES[who.lower()], "content": said}
