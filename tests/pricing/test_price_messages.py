"""Bills of logged conversations, counted by hand: marks at ends of messages, answers by their text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from radixcache.cli import main
from tests.pricing.words import word_tokenizer

PRICES = """
currency = "USD"
[tables.Marked]
input = 10
cache_read = 1
cache_write = 12.5
output = 100
marking = "breakpoints"
as_of = 2026-01-01
source = "nowhere"
"""
SYSTEM = {"role": "system", "content": "a b c d e f g h"}
TOOL = {"type": "function", "function": {"name": "look"}}
MARKS = "Breakpoints are assumed at the end of the first part"
NO_ENDS = "Where messages end is not known"


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


CHATS: list[dict[str, Any]] = [
    # [system] and 8 words end at 9, [end] [user] one two at 13; with [end] [assistant] 15 tokens
    {"messages": [SYSTEM, said("user", "one two")], "response": said("assistant", "x y z")},
    # 9, 13; 15: 12 words as above, but no message ends with them
    {"messages": [SYSTEM, said("user", "one three")], "output": "x y"},
    # 9, 13, 18, 21; 23: goes on with the first
    {
        "messages": [SYSTEM, said("user", "one two"), said("assistant", "x y z"), said("user", "four")],
        "response": {
            "choices": [{"message": said("assistant", "u")}],
            "usage": {"completion_tokens": 7},
        },
    },
]


def report(folder: Path, log: list[dict[str, Any]], *options: str, priced: bool = True) -> dict[str, Any]:
    """The doctor's JSON."""
    log_file, prices, out = folder / "log.jsonl", folder / "prices.toml", folder / "out.json"
    log_file.write_text("".join(json.dumps(line) + "\n" for line in log))
    prices.write_text(PRICES)
    words = folder / "words"
    if not words.exists():
        word_tokenizer(words, "a b c d e f g h one two three four x y z u look")
    arguments = ["doctor", str(log_file), "--tokenizer", str(words), "--json", str(out), *options]
    assert main([*arguments, *(["--pricing", str(prices)] if priced else [])]) == 0
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def bill(pricing: dict[str, Any]) -> tuple[int, int, int]:
    """Tokens read, written and plain of the only table."""
    (provider,) = pricing["providers"]
    return provider["cached_tokens"], provider["written_tokens"], provider["plain_tokens"]


def test_marks_stand_where_messages_of_the_log_end(tmp_path: Path) -> None:
    pricing = report(tmp_path, CHATS)["pricing"]
    assert pricing["prompt_tokens"] == 15 + 15 + 23
    # nothing; the system message; the first prompt up to the end of its question
    assert bill(pricing) == (9 + 13, 13 + 4 + 8, 2 + 2 + 2)
    text = " ".join(pricing["assumptions"])
    assert MARKS in text
    assert NO_ENDS not in text


def test_tools_and_system_prompt_end_together(tmp_path: Path) -> None:
    """The question is a tool's name, too: [system] 8 [end] [tools] look [/tools] is 13, and it ends at 15."""
    log: list[dict[str, Any]] = [
        {"messages": [SYSTEM, said("user", "look")], "tools": [TOOL]},
        {"messages": [SYSTEM, said("user", "four")], "tools": [TOOL]},
        {"messages": [SYSTEM, said("user", "look"), said("user", "four")], "tools": [TOOL]},
        {"messages": [SYSTEM, said("user", "look")]},
    ]
    pricing = report(tmp_path, log)["pricing"]
    # 17, 17 and 20 tokens with tools, and 14 without them, whose marks at 9 and 12 nobody else has set
    assert bill(pricing) == (13 + 15, 15 + 2 + 3 + 12, 2 + 2 + 2 + 2)


def test_a_system_message_among_others_ends_by_itself(tmp_path: Path) -> None:
    opening = [said("user", "one"), said("system", "a b")]
    log = [{"messages": [*opening, said("user", last)]} for last in ("two", "three")]
    # [user] one ends at 2, [end] [system] a b at 6, the last one at 9, and the prompt has 11
    assert bill(report(tmp_path, log)["pricing"]) == (6, 9 + 3, 2 + 2)


@pytest.mark.parametrize("tokens", [False, True])
def test_prompts_without_messages_have_marks_wherever_they_part(tmp_path: Path, tokens: bool) -> None:
    log: list[dict[str, Any]] = [{"prompt": "a b c d"}, {"prompt": "a b c e"}]
    if tokens:
        log = [{"prompt_token_ids": [1, 2, 3, 4]}, {"prompt_token_ids": [1, 2, 3, 5]}]
    pricing = report(tmp_path, log)["pricing"]
    assert bill(pricing) == (3, 4 + 1, 0)
    text = " ".join(pricing["assumptions"])
    assert f"{NO_ENDS}: " in text
    assert MARKS not in text


def test_a_log_of_both_has_both(tmp_path: Path) -> None:
    log = [*CHATS[:2], {"prompt": "a b c d"}, {"prompt": "a b c e"}]
    pricing = report(tmp_path, log)["pricing"]
    assert bill(pricing) == (9 + 3, 13 + 4 + 4 + 1, 2 + 2)
    text = " ".join(pricing["assumptions"])
    assert MARKS in text
    assert f"{NO_ENDS} in 2 of 4 requests: " in text


def test_answers_are_counted_by_their_text_where_nothing_else_is_logged(tmp_path: Path) -> None:
    pricing = report(tmp_path, CHATS)["pricing"]
    (provider,) = pricing["providers"]
    assert pricing["output_tokens"] == 3 + 2 + 7
    assert provider["cost_output"] == pytest.approx(12 * 100e-6)
    text = " ".join(pricing["assumptions"])
    counted = "it was counted from their text and tool calls."
    assert f"The length of 2 of 3 answers is not logged: {counted}" in text
    assert "they cost nothing here" not in text
    assert report(tmp_path, CHATS, "--outputs")["pricing"] == pricing


def test_tool_calls_are_counted_by_their_names_and_arguments(tmp_path: Path) -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": "a b c"}}
    chat = {**CHATS[0], "response": {"role": "assistant", "content": None, "tool_calls": [call]}}
    pricing = report(tmp_path, [chat])["pricing"]
    assert pricing["output_tokens"] == 6  # as many words has its JSON


def test_an_answer_to_token_ids_is_not_counted(tmp_path: Path) -> None:
    """Their tokenizer is not known."""
    pricing = report(tmp_path, [{"prompt_token_ids": [1, 2], "output": "x y"}])["pricing"]
    assert pricing["output_tokens"] == 0
    assert "The length of the answers is not known: they cost nothing here." in pricing["assumptions"]


@pytest.mark.parametrize("options", [[], ["--outputs"], ["--arrivals", "timestamps", "--capacity", "2"]])
def test_prices_change_nothing_else(tmp_path: Path, options: list[str]) -> None:
    log = [{**chat, "timestamp": 100 + place} for place, chat in enumerate(CHATS)]
    reports = [report(tmp_path, log, *options, priced=priced) for priced in (False, True)]
    for found in reports:
        found["pricing"] = None
        for finding in found["findings"]:
            finding["money"] = None
        answered = found["table"]["columns"].index("output_tokens")
        for row in found["table"]["rows"]:
            row[answered] = 0
    assert reports[0] == reports[1]
