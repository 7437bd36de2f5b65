"""Prompts put together from pieces have the ids of the whole."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixcache.doctor.log import PricedEncoder
from radixcache.doctor.texts.layout import lay_out
from radixcache.logs.reader import LogReader
from radixcache.logs.record import LogRequest
from radixcache.logs.rules import LineRules
from radixcache.prompts import ChatRenderer, encode_text
from radixcache.prompts.encode import PromptEncoder
from radixcache.prompts.parts import message_ends
from radixcache.prompts.pieces import PieceEncoder
from radixcache.prompts.plain import PlainText
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

    (found,) = LogReader(LineRules(), None).parse("log", 1, json.dumps(record).encode())
    assert isinstance(found, LogRequest)
    return found


def whole(entry: LogRequest) -> list[int]:
    """Ids of a request's prompt, encoded in one piece."""
    if entry.messages is None:
        return encode_text(tokenizer(), entry.prompt or "")
    renderer = ChatRenderer(tokenizer(), "x")
    return renderer.encode(renderer.render(entry.messages, entry.tools).text)


@settings(max_examples=200, deadline=None)
@given(texts)
def test_any_text(text: str) -> None:
    encoder = PromptEncoder(tokenizer(), "x")
    entry = request(prompt=text)
    assert list(encoder.encode(entry)) == whole(entry)
    chat = request(messages=[{"role": "user", "content": text}])
    assert list(encoder.encode(chat)) == list(encoder.render(chat.messages or []).ids) == whole(chat)
    if "<|im_end|>" not in text:
        stock = tokenizer().encode(text, add_special_tokens=False, verbose=False)
        assert list(encoder.encode_answer(text)) == stock


@settings(max_examples=200, deadline=None)
@given(texts, st.lists(st.floats(0, 1), max_size=6))
def test_tokens_before_any_character(text: str, shares: list[float]) -> None:
    """Those of the whole text that have ended by then, in a text that is cut and one that is not."""
    plain = PlainText(tokenizer())
    pieces, uncut = PieceEncoder(tokenizer(), plain), PieceEncoder(tokenizer(), plain)
    uncut._special = None
    places = sorted(round(share * len(text)) for share in shares)
    encoded = tokenizer().backend_tokenizer.encode(text, add_special_tokens=False)
    for encoder in (pieces, uncut):
        ids, counts = encoder.encode_to(text, places)
        assert list(ids) == list(encoder.encode(text)) == encoded.ids
        assert list(counts) == [sum(stop <= place for _, stop in encoded.offsets) for place in places]


@settings(max_examples=100, deadline=None)
@given(texts, st.floats(0, 1))
def test_tokens_before_a_character_of_a_text_with_masked_tokens(text: str, share: float) -> None:
    plain = PlainText(tokenizer())
    masked = plain.mask(f"a{text}<|im_end|>")
    place = round(share * len(masked))
    ids, (count, every) = PieceEncoder(tokenizer(), plain).encode_to(masked, [place, len(masked)])
    assert list(ids) == plain.encode(masked)
    assert every == len(ids)
    assert tokenizer().backend_tokenizer.decode(list(ids), skip_special_tokens=False) == plain.unmask(masked)
    assert abs(count - len(plain.encode(masked[:place]))) <= 3


@pytest.mark.data
@pytest.mark.parametrize("name", ["airline_agent", "multiturn_chat"])
def test_ends_of_messages_in_real_logs(name: str) -> None:
    """Where the template ends a turn that is not empty, the text until there is tokenised by itself."""
    encoder = PricedEncoder(lambda: PromptEncoder(tokenizer(), "x"))
    seen = 0
    for record in records(name, 12, start=90):
        entry = request(**record)
        ids = encoder.encode(entry)
        assert list(ids) == whole(entry)
        rendered = ChatRenderer(tokenizer(), "x").render(record["messages"]).text
        turns = rendered.split("<|im_end|>")[:-1]
        if record["messages"][0]["role"] != "system":
            turns[:2] = ["<|im_end|>".join(turns[:2])]  # the first one is the template's
        texts_until = ["<|im_end|>".join(turns[: count + 1]) for count in range(len(turns))]
        said = [text for text in texts_until if not re.search(r"<\|im_start\|>\w+\n\Z", text)]
        expected = [len(tokenizer().encode(text, add_special_tokens=False, verbose=False)) for text in said]
        assert list(encoder.ends(entry) or ()) == expected
        assert encoder.ends(request(**record)) is None
        seen += len(expected)
    assert seen > 24


@pytest.mark.data
@pytest.mark.parametrize("name", ["airline_agent", "multiturn_chat", "bbh_fewshot", "miniswe"])
def test_real_logs(name: str) -> None:
    encoder = PromptEncoder(tokenizer(), "x")
    for record in records(name, 12, start=90):
        entry = request(**record)
        assert list(encoder.encode(entry)) == whole(entry)


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
    assert list(PromptEncoder(Whole(), "x").encode(entry)) == encode_text(Whole(), "b<s>b")


def test_parts_of_a_chat() -> None:
    encoder = PromptEncoder(tokenizer(), "x")
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
    stops = {part.message: part.stop for part in laid.parts if part.name != "template"}
    tools = next(part for part in laid.parts if part.name == "tools")
    assert message_ends(laid.parts) == [tools.stop, stops[1], stops[2], stops[3]]
