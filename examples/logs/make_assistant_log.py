"""Write assistant.jsonl from the texts in source/: a morning at a small shop's assistant.

Every line is one request as a chat-completions server would log it. Conversations are text files: a head of
`name: value` lines, then turns that begin with `> user`, `> assistant`, `> call TOOL ARGUMENTS` or
`> result JSON`. Each assistant turn and each call is one request, whose messages are all turns before it.

Head fields: `system`, `tools` and `examples` name other files in source/; `tenant`, `start` (time of the
first request) and `max_tokens` are logged as they are. Three make the log miss the cache on purpose:
`tools: shuffled` lists the tools in another order each time, `stamped: yes` puts the time at the head of the
system prompt, and `independent: yes` makes every question a conversation of its own.

    python examples/logs/make_assistant_log.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCE = HERE / "source"
READING_SPEED = 30  # characters a second, for the pause before a customer's next message
Message = dict[str, Any]


@dataclass(frozen=True)
class Turn:
    """One `> ...` block of a conversation."""

    kind: str
    text: str


def parse_turns(text: str) -> list[Turn]:
    """The turns of a conversation, from its first `> ` line on."""
    turns: list[Turn] = []
    for line in text.splitlines():
        if line.startswith("> "):
            kind, _, rest = line[2:].partition(" ")
            turns.append(Turn(kind, rest))
        elif turns:
            turns[-1] = Turn(turns[-1].kind, f"{turns[-1].text}\n{line}".strip())
    return turns


def parse_head(text: str) -> dict[str, str]:
    """The `name: value` lines before the first blank line."""
    head, _, _ = text.partition("\n\n")
    return dict(line.split(": ", 1) for line in head.splitlines())


def to_messages(turns: list[Turn]) -> list[Message]:
    """Turns as chat-completions messages; calls are numbered so that results can name theirs."""
    messages: list[Message] = []
    calls = 0
    for turn in turns:
        if turn.kind == "call":
            calls += 1
            name, arguments = turn.text.split(" ", 1)
            json.loads(arguments)
            function = {"name": name, "arguments": arguments}
            call = {"id": f"call_{calls}", "type": "function", "function": function}
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        elif turn.kind == "result":
            json.loads(turn.text)
            messages.append({"role": "tool", "tool_call_id": f"call_{calls}", "content": turn.text})
        else:
            messages.append({"role": turn.kind, "content": turn.text})
    return messages


def requests_of(path: Path) -> Iterator[dict[str, Any]]:
    """The requests of one conversation, in order of time."""
    text = path.read_text(encoding="utf-8")
    head = parse_head(text)
    system = (SOURCE / f"{head['system']}.txt").read_text(encoding="utf-8").strip()
    tools = json.loads((SOURCE / "tools.json").read_text(encoding="utf-8")) if "tools" in head else None
    examples: list[Message] = []
    if "examples" in head:
        examples = to_messages(parse_turns((SOURCE / f"{head['examples']}.txt").read_text(encoding="utf-8")))
    moment = datetime.fromisoformat(head["start"]).replace(tzinfo=UTC)
    history: list[Message] = []
    count = 0
    for message in to_messages(parse_turns(text)):
        if message["role"] == "assistant":
            stamp = f"It is {moment:%A, %d %B %Y, %H:%M:%S}.\n\n" if "stamped" in head else ""
            record: dict[str, Any] = {
                "session_id": f"{path.stem}-{count + 1}" if "independent" in head else path.stem,
                "tenant": head["tenant"],
                "timestamp": moment.timestamp(),
                "max_tokens": int(head["max_tokens"]),
                "messages": [{"role": "system", "content": stamp + system}, *examples, *history],
            }
            if tools is not None:
                turned = count % len(tools) if head["tools"] == "shuffled" else 0
                record["tools"] = tools[turned:] + tools[:turned]
            yield {**record, "response": message}
            count += 1
        history = [] if message["role"] == "assistant" and "independent" in head else [*history, message]
        size = len(message["content"] or "")
        pause = 1 if message["role"] in ("assistant", "tool") else 4 + size / READING_SPEED
        moment += timedelta(
            seconds=round(pause + (size / READING_SPEED if message["role"] == "assistant" else 0), 1)
        )


def main() -> None:
    """Write all conversations as one log, in order of time."""
    records = [
        record for path in sorted((SOURCE / "conversations").glob("*.txt")) for record in requests_of(path)
    ]
    records.sort(key=lambda record: record["timestamp"])
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    (HERE / "assistant.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")
    sessions = len({record["session_id"] for record in records})
    print(f"{len(records)} requests in {sessions} conversations")


if __name__ == "__main__":
    main()
