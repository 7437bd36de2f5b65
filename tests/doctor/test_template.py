"""Chat templates with planted instabilities: what changes, where, and in which smallest conversation."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from radixcache.doctor.template.conversations import conversations
from radixcache.doctor.template.prove import prove_template
from radixcache.doctor.template.render import Renderer
from radixcache.doctor.template.results import TemplateChange, TemplateProof
from radixcache.doctor.template.source import ChatTemplate
from radixcache.report.terminal.template import print_proofs, write_proofs

TURN = "{{ '<|start|>' + m.role + '\\n' + m.content + '<|end|>\\n' }}"
ASK = "{% if add_generation_prompt %}{{ '<|start|>assistant\\n' }}{% endif %}"
LOOP = "{% for m in messages %}\n" + TURN + "\n{% endfor %}\n" + ASK


def prove(text: str, **special: str) -> TemplateProof:
    return prove_template(ChatTemplate("test", text, special))


def only(proof: TemplateProof) -> TemplateChange:
    (change,) = proof.changes
    return change


def roles(change: TemplateChange) -> list[str]:
    return [str(message["role"]) for message in change.messages]


def outcome(proof: TemplateProof, feature: str) -> str:
    return next(c.outcome for c in proof.conversations if c.feature == feature)


def test_a_template_that_only_appends_is_stable() -> None:
    proof = prove(LOOP)
    assert (proof.verdict, proof.exceptions, proof.changes) == ("stable", (), ())
    assert outcome(proof, "turns") == outcome(proof, "empty turns") == "stable"
    assert outcome(proof, "tools") == outcome(proof, "reasoning") == "unknown"


def test_a_count_at_the_start_makes_it_unstable() -> None:
    proof = prove("{{ '<|' -}}\n{{ messages | length }} messages|>\n" + LOOP)
    change = only(proof)
    assert (proof.verdict, proof.exceptions) == ("unstable", ("turns",))
    assert roles(change) == ["user", "assistant", "user"]
    assert (change.request, change.message, change.role, change.kind) == (1, 0, "user", "prompt")
    assert (change.before, change.lost, change.replaced) == ("", "<|1", "<|3")
    assert change.after.startswith(" messages|>")
    assert (change.template_line, change.template_text) == (2, "{{ messages | length }} messages|>")
    assert change.kept_characters == 2
    assert change.lost_characters > 50


def test_reasoning_that_is_dropped_later_is_found_in_the_answer_and_in_the_prompt() -> None:
    text = (
        "{% set ns = namespace(last=0) %}\n"
        "{% for m in messages if m.role == 'user' %}{% set ns.last = ns.last + 1 %}{% endfor %}\n"
        "{% set ns.users = 0 %}\n"
        "{% for m in messages %}\n"
        "{% if m.role == 'user' %}{% set ns.users = ns.users + 1 %}{% endif %}\n"
        "{{ '<|start|>' + m.role + '\\n' -}}\n"
        "{% if m.reasoning_content and ns.users == ns.last %}\n"
        "{{ '<think>' + m.reasoning_content + '</think>\\n' -}}\n"
        "{% endif %}\n"
        "{{ m.content + (m.tool_calls | tojson if m.tool_calls else '') + '<|end|>\\n' }}\n"
        "{% endfor %}\n" + ASK
    )
    proof = prove(text)
    assert (proof.verdict, proof.exceptions) == ("stable_except", ("reasoning", "reasoning with tool calls"))
    answer, prompt = proof.changes
    assert (answer.kind, prompt.kind) == ("answer", "prompt")
    assert roles(answer) == ["user", "assistant", "user"]
    assert roles(prompt) == ["user", "assistant", "tool", "user"]
    assert answer.lost == "<think>Thinking of romeo1: the traveller has an afternoon.</think>\n"
    assert prompt.lost == "<think>Thinking of romeo2: the traveller has an afternoon.</think>\n"
    assert answer.replaced == prompt.replaced == ""
    assert (answer.message, answer.request, prompt.message, prompt.request) == (1, 2, 1, 3)
    assert answer.template_line == prompt.template_line == 8
    assert prompt.before.endswith("<|start|>assistant\n")
    assert outcome(proof, "turns") == outcome(proof, "tool calls") == "stable"


def test_a_generation_prompt_that_is_not_there_later() -> None:
    proof = prove(LOOP.replace("assistant\\n' }}{% endif %}", "assistant\\n<think>\\n' }}{% endif %}"))
    change = only(proof)
    assert (proof.verdict, proof.exceptions) == ("stable_except", ("the generation prompt",))
    assert (change.kind, change.message, change.lost) == ("generation_prompt", None, "<think>\n")
    assert change.replaced.startswith("Answer alpha1")
    assert change.template_line == 4


def test_a_template_that_always_asks_for_an_answer() -> None:
    proof = prove(LOOP.replace(ASK, "{{ '<|start|>assistant\\n<think>' }}"))
    assert proof.exceptions == ("the generation prompt",)


def test_tools_that_move_with_the_last_turn() -> None:
    text = LOOP.replace(
        "{% for m in messages %}\n",
        "{% for m in messages %}\n{% if tools and m.role == 'user' and loop.last %}\n"
        "{{ '[TOOLS]' + tools | tojson + '[/TOOLS]\\n' }}\n{% endif %}\n",
    )
    proof = prove(text)
    change = only(proof)
    assert (proof.verdict, proof.exceptions) == ("stable_except", ("tools",))
    assert change.with_tools
    assert (change.message, change.role, change.template_line) == (-1, None, 3)
    assert roles(change) == ["user", "assistant", "user"]
    assert change.kept_characters == 0
    assert change.replaced.startswith("<|start|>user") or change.lost.startswith("[TOOLS]")


def test_a_system_prompt_in_the_last_turn_makes_it_unstable() -> None:
    text = (
        "{% set system = messages[0].content if messages[0].role == 'system' else '' %}\n"
        "{% for m in messages %}{% if m.role != 'system' %}\n"
        "{% if loop.last and system %}{{ system + '\\n' }}{% endif %}\n"
        + TURN
        + "\n{% endif %}{% endfor %}"
        + ASK
    )
    proof = prove(text)
    change = only(proof)
    assert (proof.verdict, proof.exceptions) == ("unstable", ("system prompt",))
    assert (change.message, change.role, change.template_line) == (0, "system", 3)
    assert roles(change) == ["system", "user", "assistant", "user"]


def test_a_last_answer_without_its_end_is_no_change() -> None:
    """Whether the end of a turn stands there already is nothing of the model's text."""
    trailing = LOOP.replace(
        "'<|end|>\\n' }}", "'<|end|>' + ('~' if loop.last and m.role == 'assistant' else '\\n') }}"
    )
    assert prove(trailing).verdict == "stable"


def test_an_answer_that_changes_at_its_very_end() -> None:
    proof = prove(
        LOOP.replace("m.content +", "(m.content if loop.last else m.content | replace('hall.', 'ha')) +")
    )
    change = only(proof)
    assert (proof.verdict, proof.exceptions) == ("stable_except", ("the last answer",))
    assert (change.kind, change.lost, change.replaced) == ("answer", "hall.", "ha")


def test_white_space_that_only_the_last_turn_keeps() -> None:
    text = LOOP.replace("m.content +", "(m.content if loop.last else m.content | trim) +")
    proof = prove(text)
    assert "white space around turns" in proof.exceptions
    assert outcome(proof, "turns") == "stable"


def test_the_date_is_named() -> None:
    proof = prove("{{ 'Today is ' + strftime_now('%d %b %Y') + '.\\n' }}\n" + LOOP)
    change = only(proof)
    assert (proof.verdict, proof.exceptions, change.kind) == ("stable_except", ("the date",), "clock")
    assert (change.before, change.lost, change.replaced) == ("Today is ", "01 Jan 2026", "31 Dec 2025")
    assert change.template_line == 1
    assert roles(change) == ["user"]


def test_a_template_may_refuse_what_it_does_not_support() -> None:
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}\n"
    proof = prove(refusing + LOOP)
    assert proof.verdict == "stable"
    refused = {c.feature: c.reason for c in proof.conversations if c.outcome == "refused"}
    assert refused == {"system prompt": "no system role"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{ raise_exception('never') }}", "never"),
        ("{% for m in messages %}", "Unexpected end of template"),
        ("{{ messages.__class__.__mro__ }}{{ ''.__class__ }}", "unsafe"),
    ],
)
def test_a_template_that_never_renders_is_no_crash(text: str, reason: str) -> None:
    proof = prove(text)
    assert proof.verdict == "not_rendered"
    assert reason in (proof.conversations[0].reason or "")


def test_arguments_as_text_and_content_as_parts_are_tried() -> None:
    wants_text = LOOP.replace(
        "m.content +", "m.content + (m.tool_calls[0].function.arguments.strip() if m.tool_calls else '') +"
    )
    assert outcome(prove(wants_text), "tool calls") == "stable"
    wants_parts = LOOP.replace("m.content +", "m.content[0]['text'].strip() +")
    assert outcome(prove(wants_parts), "turns") == "stable"


def test_a_template_for_tool_use_alone_is_judged_by_that() -> None:
    needs_tools = "{% for t in tools %}{{ t.function.name }}{% endfor %}" + LOOP
    proof = prove(needs_tools)
    assert (outcome(proof, "turns"), outcome(proof, "tools"), proof.verdict) == (
        "refused",
        "stable",
        "stable",
    )
    assert prove("{{ messages | length }}" + needs_tools).verdict == "unstable"


def test_the_lines_that_wrote_a_rendering() -> None:
    renderer = Renderer(
        ChatTemplate("test", "a{{ bos_token }}\n{{ messages[0].content }}\nz", {"bos_token": "b"})
    )
    lines = renderer.trace([{"role": "user", "content": "cd"}], None, generation_prompt=True)
    assert lines is not None
    assert lines.text == "ab\ncd\nz"
    assert [lines.at(i) for i in range(8)] == [1, 1, 1, 2, 2, 2, 3, None]


def test_every_text_of_a_conversation_can_be_found_again() -> None:
    for conversation in conversations():
        text = json.dumps([conversation.messages, conversation.tools])
        assert conversation.markers
        assert all(text.count(word) for word in conversation.markers)
        assert conversation.messages[-1]["role"] in ("user", "tool")
        assert len(list(conversation.requests())) >= 2


def test_tokens_are_counted_where_there_is_a_tokenizer() -> None:
    template = ChatTemplate("test", "{{ messages | length }}" + LOOP, {}, lambda text: list(text.encode()))
    change = only(prove_template(template))
    assert change.lost_tokens == change.lost_characters


def test_the_report_is_readable_and_escaped(tmp_path: Path) -> None:
    text = "{{ '\x1b[31m' + (messages | length) | string }}" + LOOP
    proofs = [prove(text), prove("{{ raise_exception('a\x1b[2Jb') }}")]
    console = Console(file=StringIO(), width=100, force_terminal=False)
    print_proofs(proofs, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b" not in shown
    assert "test: unstable: turns" in shown
    assert "user | assistant, user" in shown
    assert "line 1" in shown
    assert "test: not rendered" in shown
    file = tmp_path / "proof.json"
    write_proofs(proofs, file)
    document: dict[str, Any] = json.loads(file.read_text())
    assert document["schema"] == "radixcache.template/1"
    first = document["templates"][0]
    assert (first["verdict"], first["changes"][0]["template_line"]) == ("unstable", 1)
    assert [m["role"] for m in first["changes"][0]["messages"]] == ["user", "assistant", "user"]
