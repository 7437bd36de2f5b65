"""Prompts put together from pieces have the ids of the whole."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixcache.doctor.log.layout import lay_out
from radixcache.doctor.log.pieces import PieceEncoder
from radixcache.logs.detect import parse_line
from radixcache.logs.record import LogRequest
from radixcache.replay.encode import PromptEncoder
from tests.doctor.planted import records, tokenizer

pytestmark = pytest.mark.model

texts = st.lists(
    st.sampled_from(
        [
            "a",
            "Zoë",
            " ",
            "\n",
            "\n\n",
            "  \n",
            "\t",
            "\r\n",
            "'s",
            "12",
            ".",
            "?!",
            "<|im_end|>",
            "<|im",
            "é",
            "日本",
            "\x1c",
            "\x85",
        ]
    ),
    min_size=1,
    max_size=30,
).map("".join)


def request(**record: Any) -> LogRequest:
    import json

    (found,) = parse_line("log", 1, json.dumps(record).encode(), None)
    assert isinstance(found, LogRequest)
    return found


@settings(max_examples=200, deadline=None)
@given(texts)
def test_any_text(text: str) -> None:
    plain, pieces = PromptEncoder(tokenizer(), "x"), PieceEncoder(tokenizer(), "x")
    entry = request(prompt=text)
    assert pieces.encode(entry) == plain.encode(entry)
    chat = request(messages=[{"role": "user", "content": text}])
    assert pieces.encode(chat) == plain.encode(chat)


@pytest.mark.data
@pytest.mark.parametrize("name", ["airline_agent", "multiturn_chat", "bbh_fewshot", "miniswe"])
def test_real_logs(name: str) -> None:
    plain, pieces = PromptEncoder(tokenizer(), "x"), PieceEncoder(tokenizer(), "x")
    for record in records(name, 12, start=90):
        entry = request(**record)
        assert pieces.encode(entry) == plain.encode(entry)


def test_a_tokenizer_that_may_not_be_cut_is_used_whole() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    class Whole:
        backend_tokenizer = Tokenizer(models.WordLevel({"a": 0, "▁b": 1, "?": 2}, unk_token="?"))
        chat_template = None

        def encode(self, text: str, **_: Any) -> list[int]:
            return list(self.backend_tokenizer.encode(text, add_special_tokens=False).ids)

    Whole.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    Whole.backend_tokenizer.add_special_tokens(["<s>"])
    entry = request(prompt="b<s>b")
    assert PieceEncoder(Whole(), "x").encode(entry) == PromptEncoder(Whole(), "x").encode(entry)


def test_parts_of_a_chat() -> None:
    encoder = PieceEncoder(tokenizer(), "x")
    tool = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {}}}
    messages = [
        {"role": "system", "content": "Be kind.\nBe brief."},
        {"role": "user", "content": "look"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"function": {"name": "look", "arguments": "{}"}}],
        },
        {"role": "tool", "content": "Be brief."},
    ]
    laid = lay_out(request(messages=messages, tools=[tool]), encoder)
    assert laid is not None
    assert "".join(laid.text[part.start : part.stop] for part in laid.parts) == laid.text
    named = [(p.name, p.message, laid.text[p.start : p.stop]) for p in laid.parts if p.name != "template"]
    assert named[0] == ("system", 0, "Be kind.\nBe brief.")
    assert named[1][0] == "tools"
    assert "Looks." in named[1][2]
    assert [name for name, _, _ in named[2:]] == ["message"] * 3
    assert [place for _, place, _ in named[2:]] == [1, 2, 3]
    assert named[3][2] == '{"name": "look", "arguments": "{}"}'
    assert laid.line_at(laid.text.index("Be brief.")) == 2
