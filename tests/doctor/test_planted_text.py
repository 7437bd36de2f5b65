"""A defect planted in a real log is named first, with its span, and its gain is what undoing it gains."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.doctor.planted import Record, adds_up, diagnose, mapped, missed, records, write

pytestmark = [pytest.mark.model, pytest.mark.data]

Defect = Callable[[], tuple[list[Record], list[Record]]]
"""Makes a log as it should be, and the same with the defect."""

NAMES = ["Mia Li", "Noah Garcia", "Aarav Brown", "Sofia Kim", "Yusuf Rossi", "Olivia Moore", "Emma Smith"]
THOUGHT = "<think>\nThe user wants this done, step by step, by the policy above.\n</think>\n\n"


def last_user(record: Record) -> Record:
    return next((m for m in reversed(record["messages"]) if m["role"] == "user"), record["messages"][-1])


def front_of_system(texts: list[str], *, home: str) -> tuple[list[Record], list[Record]]:
    """Text that belongs to the end of the last user message, or of the system message, put first."""

    def original(place: int, record: Record) -> Record:
        target = last_user(record) if home == "last" else record["messages"][0]
        target["content"] += f"\n\n{texts[place]}"
        return record

    def perturbed(place: int, record: Record) -> Record:
        system = record["messages"][0]
        system["content"] = f"{texts[place]}\n\n{system['content']}"
        return record

    log = records("airline_agent", 30)
    return mapped(log, original), mapped(log, perturbed)


def date_first() -> tuple[list[Record], list[Record]]:
    seed = random.Random(1)
    times = [
        f"Current time: 2026-11-{1 + i % 28:02} {9 + i // 60:02}:{i % 60:02}:{seed.randrange(45):02} UTC."
        for i in range(45)
    ]
    return front_of_system(times, home="last")


def request_id_first() -> tuple[list[Record], list[Record]]:
    seed = random.Random(2)
    return front_of_system(
        [f"Request id: {uuid.UUID(int=seed.getrandbits(128))}" for _ in range(45)], home="last"
    )


def counter_first() -> tuple[list[Record], list[Record]]:
    return front_of_system(
        [f"This is call number {1000 + 7 * i} of the service." for i in range(45)], home="last"
    )


def user_name_first() -> tuple[list[Record], list[Record]]:
    log = records("airline_agent", 30)
    sessions = list(dict.fromkeys(record["session_id"] for record in log))
    return front_of_system(
        [f"You are talking to {NAMES[sessions.index(record['session_id']) % 7]}." for record in log],
        home="end",
    )


def line_that_comes_and_goes() -> tuple[list[Record], list[Record]]:
    """Now and then a request says who is speaking; else it says nothing there."""
    seed = random.Random(8)
    notes = [f"Session of user {seed.randrange(10**6)} is open." if i % 3 == 0 else "" for i in range(45)]

    def original(place: int, record: Record) -> Record:
        last_user(record)["content"] += f"\n\n{notes[place]}" if notes[place] else ""
        return record

    def perturbed(place: int, record: Record) -> Record:
        system = record["messages"][0]
        first, rest = system["content"].split("\n\n- Before", 1)
        system["content"] = f"{first}\n\n{notes[place]}{chr(10) if notes[place] else ''}- Before{rest}"
        return record

    log = records("airline_agent", 30)
    return mapped(log, original), mapped(log, perturbed)


def id_opens_the_prompt() -> tuple[list[Record], list[Record]]:
    seed = random.Random(4)
    ids = [f"{seed.getrandbits(64):016x}" for _ in range(45)]
    log = records("bbh_fewshot", 45)
    return (
        mapped(log, lambda i, r: r | {"prompt": f"{r['prompt']}\n\ntrace={ids[i]}"}),
        mapped(log, lambda i, r: r | {"prompt": f"trace={ids[i]}\n\n{r['prompt']}"}),
    )


def shuffled_examples() -> tuple[list[Record], list[Record]]:
    seed = random.Random(5)

    def arranged(record: Record, arrange: Callable[[list[str]], Any]) -> Record:
        head, *examples, question = record["prompt"].split("\n\n")
        examples = list(dict.fromkeys(examples))
        return record | {"prompt": "\n\n".join([head, *arrange(examples), question])}

    log = records("bbh_fewshot", 45)
    return (
        mapped(log, lambda _, r: arranged(r, sorted)),
        mapped(log, lambda _, r: arranged(r, lambda pieces: seed.sample(pieces, len(pieces)))),
    )


def tools(count: int = 8) -> list[Record]:
    return [
        {
            "function": {
                "description": f"Does thing number {i} for an airline's customer, and says what came of it.",
                "name": f"do_{'abcdefgh'[i]}_thing",
                "parameters": {
                    "properties": {"id": {"type": "string"}, "why": {"type": "string"}},
                    "type": "object",
                },
            },
            "type": "function",
        }
        for i in range(count)
    ]


def shuffled_tools() -> tuple[list[Record], list[Record]]:
    seed = random.Random(6)
    log = records("airline_agent", 30)
    return (
        mapped(log, lambda _, r: r | {"tools": tools()}),
        mapped(log, lambda _, r: r | {"tools": seed.sample(tools(), 8)}),
    )


def shuffled_keys() -> tuple[list[Record], list[Record]]:
    """Tools of the same content, keys in another order each time; no other JSON is in these chats."""
    seed = random.Random(7)

    def shuffled(value: Any) -> Any:
        if isinstance(value, list):
            return [shuffled(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {key: shuffled(value[key]) for key in seed.sample(sorted(value), len(value))}

    log = records("multiturn_chat", 45)
    return (
        mapped(log, lambda _, r: r | {"tools": tools()}),
        mapped(log, lambda _, r: r | {"tools": shuffled(tools())}),
    )


def reindented_json() -> tuple[list[Record], list[Record]]:
    """A JSON block in the system message, with spaces or without."""
    import json

    state = {
        "cabins": ["basic economy", "economy", "business"],
        "fees": {"bag": 50, "change": 0},
        "open": True,
    }

    def with_state(record: Record, *, tight: bool) -> Record:
        text = json.dumps(state, separators=(",", ":") if tight else (", ", ": "))
        return record | {
            "messages": [
                {
                    "role": "system",
                    "content": f"State: {text}\nAnswer from the state above, and be brief. " * 1
                    + "Never invent a fee. " * 20,
                },
                *record["messages"],
            ]
        }

    log = records("multiturn_chat", 45)
    return (
        mapped(log, lambda _, r: with_state(r, tight=False)),
        mapped(log, lambda i, r: with_state(r, tight=i % 3 == 1)),
    )


def stray_space() -> tuple[list[Record], list[Record]]:
    from radixcache.doctor.edits.rewriters import squeezed

    def stray(place: int, record: Record) -> Record:
        head, rest = record["prompt"].split("\n", 1)
        return record | {"prompt": f"{head}{' ' * (place % 3)}\n{rest}"}

    log = mapped(records("bbh_fewshot", 45), lambda _, r: r | {"prompt": squeezed(r["prompt"])})
    return log, mapped(log, stray)


def cut_off_front() -> tuple[list[Record], list[Record]]:
    def windowed(_: int, record: Record) -> Record:
        system, *turns = record["messages"]
        return record | {"messages": [system, *turns[-6:]]}

    log = records("airline_agent", 30)
    return log, mapped(log, windowed)


def summarised() -> tuple[list[Record], list[Record]]:
    def short(_: int, record: Record) -> Record:
        system, *turns = record["messages"]
        if len(turns) <= 8:
            return record
        cut = (len(turns) - 4) // 4 * 4
        summary = {
            "role": "user",
            "content": f"Summary of the {cut} turns before: the user asked for a flight.",
        }
        return record | {"messages": [system, summary, *turns[cut:]]}

    log = records("airline_agent", 30)
    return log, mapped(log, short)


def trimmed_results() -> tuple[list[Record], list[Record]]:
    def trimmed(_: int, record: Record) -> Record:
        *earlier, last = record["messages"]
        for message in earlier[:-2]:
            if message["role"] == "tool":
                message["content"] = message["content"][:80]
        return record | {"messages": [*earlier, last]}

    log = records("airline_agent", 30)
    return log, mapped(log, trimmed)


def dropped_reasoning() -> tuple[list[Record], list[Record]]:
    def thinking(record: Record, keep: int | None) -> Record:
        answers = [m for m in record["messages"] if m["role"] == "assistant" and m.get("content")]
        for message in answers if keep is None else answers[-keep:]:
            message["content"] = THOUGHT + message["content"]
        return record

    log = records("airline_agent", 30)
    return mapped(log, lambda _, r: thinking(r, None)), mapped(log, lambda _, r: thinking(r, 1))


def text_cut_off_front() -> tuple[list[Record], list[Record]]:
    """A coding agent's prompt, one text: its middle is thrown away when it gets long."""

    log = [record for record in records("miniswe", 40) if len(record["prompt"]) < 16_000]
    before: dict[str, int] = {}  # a session's length so far: of what is new nothing is thrown away

    def windowed(_: int, record: Record) -> Record:
        text, session = record["prompt"], record["session"]
        kept = max(5500, len(text) - before.get(session, 0) + 600)
        before[session] = len(text)
        return record if len(text) < 3500 + kept else record | {"prompt": text[:3000] + text[-kept:]}

    return log, mapped(log, windowed)


CASES: list[tuple[Defect, str, str, str]] = [
    # the defect, the kind of finding, the part, and what must be in the differing span
    (date_first, "volatile_text", "system", "2026-11-"),
    (request_id_first, "volatile_text", "system", "-"),
    (counter_first, "volatile_text", "system", "1"),
    (user_name_first, "volatile_text", "system", "i"),
    (line_that_comes_and_goes, "volatile_text", "system", "Session of user"),
    (id_opens_the_prompt, "volatile_text", "prompt", ""),
    (shuffled_examples, "reordered", "prompt", ""),
    (shuffled_tools, "reordered", "tools", "thing"),
    (shuffled_keys, "json_layout", "tools", ""),
    (reindented_json, "json_layout", "system", ""),
    (stray_space, "json_layout", "prompt", " "),
    (cut_off_front, "history_rewritten", "message", ""),
    (summarised, "history_rewritten", "message", ""),
    (trimmed_results, "history_rewritten", "message", ""),
    (dropped_reasoning, "history_rewritten", "message", ""),
    (text_cut_off_front, "history_rewritten", "prompt", ""),
]


@pytest.mark.parametrize(("defect", "kind", "part", "span"), CASES, ids=[c[0].__name__ for c in CASES])
def test_a_planted_defect(defect: Defect, kind: str, part: str, span: str, tmp_path: Path) -> None:
    original, perturbed = defect()
    paths = write(tmp_path / "original.jsonl", original), write(tmp_path / "perturbed.jsonl", perturbed)
    diagnosis = diagnose(paths[1])
    assert adds_up(diagnosis)
    first = diagnosis.findings[0]
    assert (first.kind, first.where.part) == (kind, part)
    example = first.examples[0]
    assert span in example.left.differs + example.right.differs
    assert example.left.differs != example.right.differs
    assert example.left.before == example.right.before
    before, after = missed(paths[1]), missed(paths[0])
    assert before == diagnosis.prompt_tokens - diagnosis.cached_tokens
    assert first.gain_tokens == before - after > 0
