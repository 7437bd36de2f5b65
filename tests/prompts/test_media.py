"""What is no text in a conversation, and what a template is given beside the messages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from radixcache.logs.reader import LogReader
from radixcache.logs.record import LogRequest
from radixcache.logs.rules import LineRules
from radixcache.prompts.encode import EncodeError, PromptEncoder
from tests.doctor.planted import tokenizer

pytestmark = pytest.mark.model


def request(**record: Any) -> LogRequest:
    (found,) = LogReader(LineRules(), None).parse("log", 1, json.dumps(record).encode())
    assert isinstance(found, LogRequest), found
    return found


def chat(url: str, **fields: Any) -> LogRequest:
    image = {"type": "image_url", "image_url": {"url": url}, "tokens": 7}
    return request(messages=[{"role": "user", "content": ["Look: ", image, " What is it?"]}], **fields)


def test_an_image_is_a_run_of_ids_that_no_vocabulary_has() -> None:
    encoder = PromptEncoder(tokenizer(), "x", media=True)
    ids = encoder.encode(chat("https://example.org/a.png"))
    run = [i for i in ids if i >= 1 << 30]
    assert len(run) == 7
    assert encoder.encode(chat("https://example.org/a.png")) == ids
    other = encoder.encode(chat("https://example.org/b.png"))
    assert [i for i in other if i < 1 << 30] == [i for i in ids if i < 1 << 30]
    assert not set(run) & set(other)


def test_a_model_of_text_refuses_it_by_name() -> None:
    with pytest.raises(EncodeError, match=r"messages\[0\].content\[1\] must be text"):
        PromptEncoder(tokenizer(), "x").encode(chat("https://example.org/a.png"))


def test_a_mark_that_somebody_wrote_is_text() -> None:
    encoder = PromptEncoder(tokenizer(), "x", media=True)
    forged = "\U0010fff0image:00ff:3\U0010fff1"
    assert max(encoder.encode(request(messages=[{"role": "user", "content": forged}]))) < 1 << 30


def test_a_template_is_given_what_the_request_gave_it() -> None:
    class Shouting:
        """A tokenizer whose template asks for a variable."""

        def __init__(self) -> None:
            self._inner = tokenizer()
            self.chat_template = (
                "{{ reasoning_effort or 'none' }} {% for m in messages %}{{ m.content }}|{% endfor %}"
                "{% if add_generation_prompt %}>{% endif %}"
            )

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

    encoder = PromptEncoder(Shouting(), "x")

    def text(**fields: Any) -> str:
        entry = request(model="m", messages=[{"role": "user", "content": "a"}], **fields)
        return encoder.decode(encoder.encode(entry).tobytes())

    assert text() == "none a|>"
    assert text(reasoning_effort="high") == "high a|>"
    assert text(chat_template_kwargs={"reasoning_effort": "low"}) == "low a|>"
    assert text(add_generation_prompt=False) == "none a|"
    assert text(continue_final_message=True) == "none a"
