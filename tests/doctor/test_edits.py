"""What-if edits do what they say, to messages, prompts and tools alike."""

from __future__ import annotations

import json
from typing import Any

import pytest

from radixcache.doctor.edits.rewriters import plain_json
from radixcache.doctor.edits.what_if import parse_edits, rewritten
from radixcache.doctor.settings import DoctorSettings
from radixcache.logs.reader import LogReader
from radixcache.logs.record import LogRequest
from radixcache.logs.rules import LineRules


def request(**record: Any) -> LogRequest:
    (found,) = LogReader(LineRules(), None).parse("log", 1, json.dumps(record).encode())
    assert isinstance(found, LogRequest)
    return found


def apply(edit: str, *entries: LogRequest) -> list[LogRequest]:
    log, _ = rewritten(entries, parse_edits([edit]), DoctorSettings())
    return list(log)


def chat(*contents: str, **more: Any) -> LogRequest:
    roles = ["system", *["user", "assistant"] * len(contents)]
    messages = [{"role": r, "content": c} for r, c in zip(roles, contents, strict=False)]
    return request(messages=messages, **more)


def contents(entry: LogRequest) -> list[str]:
    assert entry.messages is not None
    return [message["content"] for message in entry.messages]


@pytest.mark.parametrize(
    ("edit", "system", "after"),
    [
        ("move:Now: \\d+:end", "Now: 12\n\nBe kind.", ["Be kind.\n\nNow: 12", "hi", "yes", "go"]),
        ("move:Now: \\d+:last", "Now: 12\n\nBe kind.", ["Be kind.", "hi", "yes", "go\n\nNow: 12"]),
        ("move:Now: \\d+:last", "Be kind.\nNow: 12", ["Be kind.", "hi", "yes", "go\n\nNow: 12"]),
        ("move:Now: \\d+:end", "A\nNow: 12\nB", ["A\nB\n\nNow: 12", "hi", "yes", "go"]),
        ("move:for Bo:end", "You work for Bo, kindly.", ["You work, kindly.\n\nfor Bo", "hi", "yes", "go"]),
        ("drop:Now: \\d+", "Now: 12\n\nBe kind.", ["Be kind.", "hi", "yes", "go"]),
        ("drop:Bo ", "You help Bo today.", ["You help today.", "hi", "yes", "go"]),
        ("sort:(?m)^- .*$", "Pick:\n- c\n- a\n- b\nNow.", ["Pick:\n- a\n- b\n- c\nNow.", "hi", "yes", "go"]),
        ("squeeze:space", "A  b \n\n\n\nc", ["A b\n\nc", "hi", "yes", "go"]),
        ("drop:nowhere", "Be kind.", ["Be kind.", "hi", "yes", "go"]),
    ],
)
def test_texts(edit: str, system: str, after: list[str]) -> None:
    entry = chat(system, "hi", "yes", "go")
    (found,) = apply(edit, entry)
    assert contents(found) == after
    assert found.raw["messages"] == found.messages
    assert contents(entry)[0] == system


def test_prompts_and_wrapped_bodies_are_rewritten_in_their_records() -> None:
    (found,) = apply("move:id=\\d+:end", request(prompt="id=7\n\nQ: why?"))
    assert found.prompt == found.raw["prompt"] == "Q: why?\n\nid=7"
    body = {"messages": [{"role": "user", "content": "id=7 why?"}]}
    (found,) = apply("drop:id=\\d+ ", request(custom_id="x", body=body))
    assert contents(found) == ["why?"]
    assert found.raw == {"custom_id": "x", "body": {"messages": found.messages}}


def test_parts_of_content_are_kept_apart() -> None:
    parts = [{"type": "text", "text": "Now: 1\nAnswer."}, "Briefly."]
    (found,) = apply("move:Now: 1:end", request(messages=[{"role": "user", "content": parts}]))
    assert found.messages is not None
    assert found.messages[0]["content"] == [
        {"type": "text", "text": "Answer."},
        "Briefly.",
        {"type": "text", "text": "\n\nNow: 1"},
    ]


TOOLS = [
    {"type": "function", "function": {"name": "b", "description": "On 2026-01-01 it does b."}},
    {"function": {"description": "a", "name": "a"}, "type": "function"},
]


def test_tools() -> None:
    entry = chat("Be kind.", "hi", tools=TOOLS)
    (found,) = apply("sort:tools", entry)
    assert found.tools == [TOOLS[1], TOOLS[0]]
    (found,) = apply("sort:json", entry)
    assert json.dumps(found.tools) == json.dumps(TOOLS, sort_keys=True)
    (found,) = apply("move:On [-\\d]+ :end", entry)
    assert found.tools is not None
    assert found.tools[0]["function"]["description"] == "it does b."
    assert contents(found) == ["Be kind.\n\nOn 2026-01-01", "hi"]


def test_plain_json_leaves_what_is_no_json() -> None:
    text = 'x {not json} {"b": 1,"a":[1,2]} [1] [{"z":1,  "y": "ü"}] {'
    assert plain_json(text) == 'x {not json} {"a": [1, 2], "b": 1} [1] [{"y": "ü", "z": 1}] {'


def test_history_is_kept_across_rewritten_turns() -> None:
    log = [
        chat("S", "u1", session="a"),
        chat("S", "other", session="b"),
        chat("S", "u1", "a1", "u2", session="a"),
        request(messages=chat("S", "u1", "a1", "u2", "a2", "u3").messages[2:], session="a"),  # type: ignore[index]
        chat("S", "u1 edited", "a1", "u2", "a2", "u3", "a3", "u4", session="a"),
        chat("S", "anew", session="c"),
    ]
    found = apply("keep:history", *log)
    assert contents(found[3]) == ["S", "u1", "a1", "u2", "a2", "u3"]
    assert contents(found[4]) == ["S", "u1", "a1", "u2", "a2", "u3", "a3", "u4"]
    assert [contents(found[i]) for i in (0, 1, 2, 5)] == [contents(log[i]) for i in (0, 1, 2, 5)]


def test_settings() -> None:
    edits = parse_edits(["capacity:2k", "policy:lfu", "block-size:32", "ttl:none", "share:namespaces"])
    _, settings = rewritten([], edits, DoctorSettings(ttl=5.0, namespace_by="user"))
    assert settings == DoctorSettings(capacity=2000, policy="lfu", block_size=32)


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        ("shuffle", "is not a valid edit"),
        ("move:x", "move:REGEX:end"),
        ("move:x:front", "move:REGEX:end"),
        ("drop:", "is not a valid edit"),
        ("drop:(", "is not a valid regular expression"),
        ("drop:x*", "matches the empty string"),
        ("capacity:many", "capacity must be .*, got 'many'"),
    ],
)
def test_bad_edits_are_refused_by_name(edit: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_edits([edit])
