"""Text prompts get the tokenizer's first token once, wherever they are used."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import transformers

from radixcache import Engine, EngineConfig, SamplingParams
from radixcache.logs import LogRequest
from radixcache.prompts import encode_text
from radixcache.prompts.encode import EncodeError, PromptEncoder
from tests import tiny_models
from tests.prompts.tokenizers_of_all_kinds import FIRST, KINDS, tokenizer


def log_request(prompt: str) -> LogRequest:
    return LogRequest("x", 1, None, None, prompt, None, None, None, None, None, {})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["the cat", "", " the", "the\n\ncat <|im_end|> 12"])
def test_text_is_encoded_as_transformers_does(kind: str, text: str) -> None:
    stock = tokenizer(kind)
    ids = encode_text(stock, text)
    assert ids == stock(text).input_ids
    assert ids[0] == stock.bos_token_id


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_with_the_first_token_does_not_get_it_twice(kind: str) -> None:
    stock = tokenizer(kind)
    rendered = stock.apply_chat_template(
        [{"role": "user", "content": "the cat"}], tokenize=False, add_generation_prompt=True
    )
    assert rendered.startswith(FIRST)
    ids = encode_text(stock, rendered)
    assert ids == stock.encode(rendered, add_special_tokens=False)
    assert ids.count(stock.bos_token_id) == 1
    assert encode_text(stock, FIRST) == [stock.bos_token_id]
    assert encode_text(stock, FIRST * 3).count(stock.bos_token_id) == 3


@pytest.mark.parametrize("text", ["the cat", FIRST + "the cat", "a <|im_start|> b"])
def test_engine_replay_and_doctor_agree(text: str) -> None:
    stock = tokenizer("byte-level")
    expected = encode_text(stock, text)
    assert list(PromptEncoder(stock, "m").encode(log_request(text))) == expected
    assert list(PromptEncoder(stock, "m").encode(log_request(text))) == expected
    shape = tiny_models._SHAPE | {"vocab_size": len(stock)}
    model: Any = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape)).eval()
    loaded = replace(tiny_models.tiny("llama"), model=model, tokenizer=stock)
    with Engine(loaded, EngineConfig(cache_tokens=512)) as engine:
        (result,) = engine.generate(text, SamplingParams(max_tokens=1))
        assert result.prompt_tokens == len(expected)
        assert engine.submit(token for token in expected).result(30).cached_tokens == len(expected) - 1


@pytest.mark.parametrize("text", [None, 5, b"x", ["a"], "\ud83d", "fine \udc00"])
def test_what_cannot_be_encoded_is_refused_by_name(text: Any) -> None:
    with pytest.raises(ValueError, match=r"prompt (must be a str|cannot be encoded)"):
        encode_text(tokenizer("byte-level"), text)


def test_a_logged_prompt_that_cannot_be_encoded_is_an_error_of_its_own() -> None:
    with pytest.raises(EncodeError, match="lone surrogate"):
        PromptEncoder(tokenizer("byte-level"), "m").encode(log_request("\ud83d"))
