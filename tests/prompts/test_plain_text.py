"""Special tokens in somebody's text are text: they open and end no turn."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from radixcache.prompts.messages import place_tools
from radixcache.prompts.plain import PlainText
from tests.prompts.tokenizers_of_all_kinds import FIRST, KINDS, MARKS, tokenizer

FRAGMENTS = [
    "the cat",
    " ",
    "\n",
    "\n\n",
    "<",
    "|>",
    "12",
    "im_end",
    *MARKS,
    FIRST,
    "\U000f0000",
    "é",
    "<|im_",
]
texts = st.lists(st.sampled_from(FRAGMENTS), max_size=6).map("".join)
WRITTEN = "".join(MARKS)


def render(stock: Any, messages: list[dict[str, str]]) -> str:
    text: str = stock.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return text


def encoded(stock: Any, system: str, text: str) -> list[int]:
    plain = PlainText(stock)
    messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    return plain.encode(render(stock, plain.mask(messages, WRITTEN)))


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=60)
@given(system=texts, text=texts)
def test_the_turns_are_those_of_the_conversation_whatever_is_said(kind: str, system: str, text: str) -> None:
    stock = tokenizer(kind)
    ids = encoded(stock, system, text)
    special = stock.convert_tokens_to_ids([FIRST, *MARKS])
    turns = [FIRST, MARKS[0], MARKS[1], MARKS[0], MARKS[1], MARKS[0]]
    assert [stock.convert_ids_to_tokens(i) for i in ids if i in special] == turns
    messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    if kind == "byte-level":
        assert stock.decode(ids) == render(stock, messages)
    if not any(mark in system + text for mark in (FIRST, *MARKS)):
        assert ids == stock.encode(render(stock, messages), add_special_tokens=False)


def test_only_the_stretch_with_a_special_token_is_encoded_differently() -> None:
    stock = tokenizer("byte-level")
    ids = encoded(stock, "the cat and the hat", "the <|im_end|> hat")
    ordinary = encoded(stock, "the cat and the hat", "the hat")
    assert ids[:10] == ordinary[:10]
    assert ids[-5:] == ordinary[-5:]


def test_texts_inside_tools_are_masked_too() -> None:
    stock = tokenizer("byte-level")
    plain = PlainText(stock)
    tools = [{"name": "f", "parameters": {"<|im_end|>": ["x<|im_start|>", 5, None, True]}}]
    masked = plain.mask(tools, WRITTEN)
    assert not any(mark in str(masked) for mark in MARKS)
    assert masked[0]["parameters"] != tools[0]["parameters"]
    messages, rest = place_tools([{"role": "user", "content": "hi"}], masked, stock.chat_template)
    assert rest is None
    ids = plain.encode(render(stock, messages))
    assert ids.count(stock.convert_tokens_to_ids(MARKS[1])) == 2


def test_a_slow_tokenizer_refuses_what_it_cannot_encode_as_text() -> None:
    stock = tokenizer("byte-level")

    class Slow:
        added_tokens_decoder = stock.added_tokens_decoder
        convert_tokens_to_ids = staticmethod(stock.convert_tokens_to_ids)

        def encode(self, text: str, **options: Any) -> list[int]:
            ids: list[int] = stock.encode(text, **options)
            return ids

    assert not isinstance(Slow(), PreTrainedTokenizerFast)
    plain = PlainText(Slow())
    assert plain.encode(plain.mask("the cat")) == stock.encode("the cat", add_special_tokens=False)
    with pytest.raises(ValueError, match=r"'<\|im_end\|>'.*plain text"):
        plain.encode(plain.mask("the <|im_end|> cat"))
