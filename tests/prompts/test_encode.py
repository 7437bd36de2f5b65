"""Logged messages through chat templates of many minds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from radixcache.errors import ModelError
from radixcache.logs import LogRequest, read_logs
from radixcache.prompts.encode import EncodeError, PromptEncoder

PLAIN = "{% for m in messages %}<{{ m.role }}>{{ m.content + '' }}{% endfor %}<assistant>"
TOOLS = (
    "{% if tools %}[{% for t in tools %}{{ t.function.name }} {% endfor %}]{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ c.function.name }}({{ c.function.arguments.place }}){% endfor %}"
    "{% endfor %}<assistant>"
)
STRICT = (
    "{% for m in messages %}{% if m.role not in ['user', 'assistant', 'system'] %}"
    "{{ raise_exception('no role ' + m.role) }}{% endif %}<{{ m.role }}>{{ m.content }}{% endfor %}"
)
DROPS = "{% for m in messages if m.role in ['user', 'assistant'] %}<{{ m.role }}>{{ m.content }}{% endfor %}"

TOOL = {"type": "function", "function": {"name": "find", "parameters": {}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"place": "Leeds"}'}}
TALK: list[dict[str, Any]] = [
    {"role": "user", "content": "where?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "here"},
]


class Tokenizer:
    """Characters as tokens, BOS on plain text only."""

    def __init__(self, template: str | dict[str, str] | None) -> None:
        self.chat_template = template

    def encode(self, text: str, add_special_tokens: bool = True, verbose: bool = True) -> list[int]:
        assert not verbose
        return [1] * add_special_tokens + [ord(c) for c in text]


def logged(**record: Any) -> LogRequest:
    return LogRequest(
        source="log",
        line=1,
        messages=record.get("messages"),
        tools=record.get("tools"),
        prompt=record.get("prompt"),
        prompt_token_ids=record.get("ids"),
        session=None,
        timestamp=None,
        max_tokens=None,
        response=None,
        raw={},
    )


def rendered(template: str | dict[str, str], **record: Any) -> str:
    return "".join(map(chr, PromptEncoder(Tokenizer(template), "m").encode(logged(**record))))


def test_token_ids_pass_unchanged_and_need_no_tokenizer() -> None:
    assert PromptEncoder(None, "m").encode(logged(ids=[5, 0, 2**31 - 1])).tolist() == [5, 0, 2**31 - 1]


def test_text_gets_the_special_tokens_of_the_tokenizer_and_chat_does_not() -> None:
    encoder = PromptEncoder(Tokenizer(PLAIN), "m")
    assert encoder.encode(logged(prompt="ab")).tolist() == [1, 97, 98]
    assert encoder.encode(logged(messages=TALK[:1])).tolist()[0] == ord("<")


def test_null_content_becomes_empty_text_and_parts_are_joined() -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, "b"]},
        {"role": "assistant", "content": None},
    ]
    assert rendered(PLAIN, messages=messages) == "<user>ab<assistant><assistant>"


def test_template_without_tools_gets_calls_and_definitions_as_lines_of_json() -> None:
    system = {"role": "system", "content": "Be kind."}
    text = rendered(PLAIN, messages=[system, *TALK], tools=[TOOL])
    call = json.dumps(CALL["function"])
    listing = f"Tools:\n{json.dumps(TOOL)}"
    assert text == f"<system>Be kind.\n\n{listing}<user>where?<assistant>{call}<tool>here<assistant>"
    assert rendered(PLAIN, messages=TALK[:1], tools=[TOOL]) == f"<system>{listing}<user>where?<assistant>"


def test_call_beside_text_follows_it_on_its_own_line() -> None:
    talk = [TALK[0], {**TALK[1], "content": "I'll look."}]
    assert f"I'll look.\n{json.dumps(CALL['function'])}" in rendered(PLAIN, messages=talk)


def test_template_with_tools_gets_them_structured_with_parsed_arguments() -> None:
    text = rendered(TOOLS, messages=TALK, tools=[TOOL])
    assert text == "[find ]<user>where?<assistant>find(Leeds)<tool>here<assistant>"


def test_arguments_that_are_no_json_stay_text() -> None:
    call = {"type": "function", "function": {"name": "find", "arguments": "{oops"}}
    template = "{% for m in messages %}{{ m.tool_calls[0].function.arguments }}{% endfor %}{{ tools }}"
    assert (
        rendered(template, messages=[{"role": "assistant", "content": None, "tool_calls": [call]}])
        == "{oopsNone"
    )


def test_old_function_calls_are_calls() -> None:
    talk = [{"role": "assistant", "content": None, "function_call": CALL["function"]}]
    assert rendered(TOOLS, messages=talk) == "<assistant>find(Leeds)<assistant>"


@pytest.mark.parametrize("template", [STRICT, DROPS])
def test_tool_results_become_user_messages_where_a_template_would_refuse_or_drop_them(template: str) -> None:
    assert rendered(template, messages=TALK).endswith("<user>here")


def test_the_logged_messages_are_not_changed() -> None:
    before = json.dumps([TALK, TOOL])
    rendered(PLAIN, messages=TALK, tools=[TOOL])
    rendered(TOOLS, messages=TALK, tools=[TOOL])
    assert json.dumps([TALK, TOOL]) == before


def test_named_templates() -> None:
    named = {"default": PLAIN, "tool_use": TOOLS}
    assert rendered(named, messages=TALK[:1]).startswith("<user>")
    assert rendered(named, messages=TALK[:1], tools=[TOOL]).startswith("[find ]")


def test_template_that_refuses_is_an_error_of_the_request() -> None:
    with pytest.raises(EncodeError, match="chat template of m refused the messages: no role robot"):
        rendered(STRICT, messages=[{"role": "robot", "content": "x"}])


def test_no_tokens_is_an_error_of_the_request() -> None:
    with pytest.raises(EncodeError, match="the prompt has no tokens"):
        rendered("{{ '' }}", messages=TALK)


def test_models_that_cannot_take_the_log_say_so() -> None:
    with pytest.raises(ModelError, match="m has no tokenizer"):
        PromptEncoder(None, "m").encode(logged(prompt="x"))
    with pytest.raises(ModelError, match="m has no chat template"):
        PromptEncoder(Tokenizer(None), "m").encode(logged(messages=TALK))


def test_transformers_tokenizer(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    characters = {chr(i): i for i in range(128)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(characters, unk_token="?"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=PLAIN)
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps({"messages": TALK, "tools": [TOOL]}) + "\n" + '{"prompt": "hi"}\n')
    chat, prompt = (PromptEncoder(tokenizer, "m").encode(r) for r in read_logs([str(log)], strict=True))
    assert "".join(map(chr, chat)) == rendered(PLAIN, messages=TALK, tools=[TOOL])
    assert prompt.tolist() == [ord("h"), ord("i")]
