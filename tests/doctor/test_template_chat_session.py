"""A chat template that rewrites earlier turns costs a `ChatSession` nothing: it keeps exact ids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from radixcache import ChatSession, Engine, EngineConfig, SamplingParams
from radixcache.doctor.template.prove import prove_template
from radixcache.doctor.template.source import ChatTemplate
from tests import tiny_models

# the count of messages stands before them all, so that every turn changes the start of the prompt
UNSTABLE = (
    "{{ messages | length }}~{% for m in messages %}{{ m.role[0] + ':' + m.content + ';' }}{% endfor %}"
    "{% if add_generation_prompt %}a:{% endif %}"
)
ANSWER = SamplingParams(max_tokens=6, temperature=0.0, ignore_eos=True)


@pytest.fixture
def engine() -> Iterator[Engine]:
    """A tiny model with a token for each letter of ASCII, and an unstable chat template."""
    backend = Tokenizer(models.WordLevel({chr(i): i for i in range(tiny_models.VOCABULARY)}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    make: Any = PreTrainedTokenizerFast
    tokenizer = make(tokenizer_object=backend, chat_template=UNSTABLE)
    model = replace(tiny_models.tiny("llama"), tokenizer=tokenizer)
    made = Engine(model, EngineConfig(cache_tokens=2048))
    yield made
    made.close()


def test_a_session_reuses_everything_where_rendering_anew_reuses_nothing(engine: Engine) -> None:
    tokenizer = engine.model.tokenizer
    proof = prove_template(ChatTemplate("unstable", UNSTABLE, {}))
    assert proof.verdict == "unstable"

    session = ChatSession(engine, params=ANSWER, namespace="session")
    rendered_cached = []
    messages: list[dict[str, str]] = []
    before: tuple[int, ...] = ()
    for turn in range(3):
        question = f"question {turn}?"
        session.send(question)
        usage = session.last_usage
        assert usage is not None
        assert session.token_ids[: len(before)] == before
        if turn:
            # all that was computed, but for the last token, whose keys and values no step has made
            assert usage.cached_tokens >= len(before) - 1
        before = session.token_ids

        messages.append({"role": "user", "content": question})
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        result = engine.submit(
            tokenizer.encode(text, add_special_tokens=False), ANSWER, namespace="rendered anew"
        ).result()
        rendered_cached.append(result.cached_tokens)
        messages.append({"role": "assistant", "content": result.text})
    assert rendered_cached == [0, 0, 0]
