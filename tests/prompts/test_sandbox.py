# ruff: noqa: E501 - a template is easier to read on one line
"""Foreign chat templates: rendered as transformers renders them, and bounded in time and memory."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from radixcache.cli import main
from radixcache.doctor.template.prove import prove_template
from radixcache.doctor.template.source import ChatTemplate
from radixcache.errors import ModelError
from radixcache.prompts import ChatRenderer, EncodeError
from radixcache.prompts.meter import TemplateLimitError
from radixcache.prompts.sandbox import render_template, trace_template

MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be kind. "},
    {"role": "user", "content": "Hello <b>& 'you'</b>\n\n  there"},
    {"role": "assistant", "content": "Hi", "reasoning": "Polite."},
    {"role": "user", "content": "Zoë 🙂"},
]
TOOLS: list[dict[str, Any]] = [{"type": "function", "function": {"name": "f", "description": "ü <&>"}}]

# Everything that chat templates are known to use.
ORDINARY = [
    "{% for m in messages %}\n  {%- if loop.first %}[{% endif %}\n{{ m['role'] }}: {{ m.content | trim }}\n{% endfor %}]",
    "{% generation %}{{ messages[0].content }}{% endgeneration %}",
    "{% set ns = namespace(n=0, text='') %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.n = ns.n + 1 %}"
    "{% set ns.text = ns.text ~ m.content ~ '\\n' %}{% endif %}{% endfor %}{{ ns.n }}{{ ns.text }}",
    "{{ tools | tojson }}{{ tools | tojson(indent=2) }}{{ {'a': messages[1:]} | tojson(sort_keys=true) }}",
    "{% for m in messages[::-1] %}{% if m.role == 'system' %}{% continue %}{% endif %}{{ loop.index0 }}{{ loop.last }}"
    "{% if loop.index > 2 %}{% break %}{% endif %}{% endfor %}",
    "{% macro show(v, depth=0) %}{% if v is mapping %}{% for k, x in v.items() %}{{ '  ' * depth }}{{ k }}="
    "{{ show(x, depth + 1) }}{% endfor %}{% else %}{{ v }}{% endif %}{% endmacro %}{{ show(tools[0]) }}",
    "{{ bos_token + ('%s-%03d' % (messages[0].role, 7)) + '{:>5}|{x}'.format(3, x='y') + ', '.join(['a', 'b']) }}",
    "{{ messages | map(attribute='role') | list }}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
    "{{ messages | rejectattr('role', 'in', ['user']) | map(attribute='content') | join('; ') | upper }}",
    "{{ messages[1].content.split('\\n') }}{{ messages[1].content.replace('Hello', 'Bye').strip().title() }}",
    "{% set x %}{{ messages[0].content }}!{% endset %}{{ x | indent(4) }}{{ x.startswith('Be') }}{{ 7 // 2 }}{{ 2 ** 8 }}",
    "{% for m in messages %}{{ m.reasoning_content or '-' }}{{ m.thinking or '-' }}{{ m.reasoning or '-' }}{% endfor %}",
    "{{ dict(a=1, b=[2]) }}{{ (messages[0].items() | list)[0] }}{{ [1] + [2, 3] }}{{ 'ab' * 3 }}{{ 1.5 | round }}",
    "{{ messages[0].missing is defined }}{{ documents is none }}",
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}{# nothing #}",
    "{%- for m in messages -%}\n{{- m.role | capitalize -}}\n{%- endfor -%}\n   end   \n",
]


@pytest.mark.parametrize("template", ORDINARY)
@pytest.mark.parametrize("prompt", [True, False])
def test_the_text_is_that_of_transformers(template: str, prompt: bool) -> None:
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    stock: Any = render_jinja_template
    (expected,), _ = stock(
        [MESSAGES], tools=TOOLS, chat_template=template, add_generation_prompt=prompt, **special
    )
    assert render_template(template, MESSAGES, TOOLS, special, generation_prompt=prompt) == expected
    pieces = trace_template(template, MESSAGES, TOOLS, special, generation_prompt=prompt)
    assert "".join(text for _, text in pieces) == expected
    assert all(1 <= line <= 1 + template.count("\n") for line, _ in pieces)


def nested(level: str, times: int, rest: str) -> str:
    return "{% set a = ['x'] * 10 %}{% set b = ['x'] * 10 %}" + level * times + rest


ENDLESS = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a power": "{{ 10 ** 10000000 }}",
    "products": "{% set n = namespace(x=3) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "repeated text": "{{ 'a' * 9999999999 }}",
    "a repeated list": "{{ [1] * 9999999999 }}",
    "a width in %": "{{ '%9999999999d' % 1 }}",
    "a width from an argument of %": "{{ '%*d' % (9999999999, 1) }}",
    "a width in format": "{{ '{:9999999999}'.format(1) }}",
    "a width from an argument of format": "{{ '{:{}}'.format(1, 9999999999) }}",
    "a width in format_map": "{{ '{a:9999999999}'.format_map({'a': 1}) }}",
    "a width in the filter": "{{ '%9999999999d' | format(1) }}",
    "fields": "{% set s = 'a' * 999999 %}{{ ('{0}' * 99999).format(s) }}",
    "centred text": "{{ 'a' | center(9999999999) }}",
    "padded text": "{{ 'a'.ljust(9999999999) }}{{ 'a'.zfill(9999999999) }}",
    "tabs": "{{ ('\\t' * 999999).expandtabs(999999) }}",
    "doubling by ~": "{% set n = namespace(x='aaaa') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "doubling by +": "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "doubling by a block": "{% set n = namespace(x='aaaa') %}{% for i in range(60) %}{% set y %}{{ n.x }}{{ n.x }}"
    "{% endset %}{% set n.x = y %}{% endfor %}",
    "replacements": "{% set s = 'a' * 999999 %}{{ s.replace('a', s) }}",
    "replacements between": "{% set s = 'a' * 999999 %}{{ s | replace('', s) }}",
    "joins": "{% set s = 'a' * 999999 %}{{ s.join([s] * 999) }}",
    "joined": "{{ (['a' * 999999] * 99999) | join }}",
    "indented": "{% set s = 'a\\n' * 999999 %}{{ s | indent(999999) }}",
    "wrapped": "{% set s = 'a ' * 999999 %}{{ s | wordwrap(1, true, s) }}",
    "indented JSON": "{{ messages | tojson(indent=9999999) }}",
    "filler": "{{ lipsum(n=9999999) }}",
    "much output": "{% set s = 'a' * 999999 %}{% for i in range(99999) %}{{ s }}{% endfor %}",
    "its own text": "{% for i in range(99999) %}" + "x" * 99999 + "{% endfor %}",
    "kept slices": "{% set s = 'a' * 9999999 %}{% set n = namespace(x=[]) %}"
    "{% for i in range(99999) %}{% set n.x = n.x + [s[1:]] %}{% endfor %}",
    "copied lists": "{% set l = range(99999) | list %}{{ ([l] * 99999) | map('list') | list | length }}",
    "lists of lists": nested("{% set a = [a, a, a, a] %}", 30, "{{ a }}"),
    "JSON of JSON": nested("{% set a = {'p': a, 'q': a} %}", 60, "{{ a | tojson }}"),
    "dicts of dicts": nested("{% set a = dict(p=a, q=a) %}", 60, "{{ a }}"),
    "deep comparisons": nested("{% set a = (a, a) %}{% set b = (b, b) %}", 60, "{{ a == b }}"),
    "many digits": "{{ 1.5 | round(999999, 'ceil') }}",
    "bytes": "{{ (1).to_bytes(9999999999) }}",
    "a table": "{{ 'aaa'.translate({97: 'b' * 999999}) }}",
    "a constant": "{% autoescape 'a' | center(9999999999) %}{% endautoescape %}",
}


@pytest.mark.parametrize("template", ENDLESS.values(), ids=ENDLESS)
def test_what_would_never_end_or_fill_the_memory_is_refused(template: str) -> None:
    begun = time.thread_time()
    with pytest.raises(TemplateLimitError):
        render_template(template, MESSAGES, TOOLS)
    assert time.thread_time() - begun < 20


@pytest.mark.parametrize(
    "template",
    [
        "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
        "{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}",
        "{% for x in [1] recursive %}{{ loop([1, 1]) }}{% endfor %}",
        "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
        "{{ ''.__class__.__mro__ }}",
        "{% set ns = namespace(_x=1) %}",
        "{{ messages.append(1) }}",
    ],
)
def test_what_python_or_the_sandbox_refuses_is_an_error_of_the_request(template: str) -> None:
    with pytest.raises(EncodeError, match="the chat template of m refused the messages: "):
        ChatRenderer(type("T", (), {"chat_template": template}), "m").render(MESSAGES)


def test_memory_stays_small() -> None:
    """In a process of little memory every template is refused by its limits, not by the system."""
    code = (
        "import resource, sys\n"
        "from radixcache.prompts.sandbox import render_template\n"
        "from radixcache.prompts.meter import TemplateLimitError\n"
        "from tests.prompts.test_sandbox import ENDLESS, MESSAGES\n"
        "limit = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n"
        "        render_template(ENDLESS[name], MESSAGES)\n"
        "    except TemplateLimitError:\n"
        "        pass\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - limit) // 1024)\n"
    )
    names = ["doubling by ~", "doubling by +", "kept slices", "copied lists", "much output", "fields"]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, *names], capture_output=True, text=True, check=True, cwd=root
    )
    assert int(done.stdout) < 600  # MiB


def test_a_long_conversation_may_take_more_steps() -> None:
    turns = [{"role": "user", "content": f"question {turn}"} for turn in range(4000)]
    template = "{% for m in messages %}{% for n in messages[-200:] %}{% endfor %}{{ m.content }}{% endfor %}"
    assert render_template(template, turns).endswith("question 3999")
    with pytest.raises(TemplateLimitError, match="more steps than a conversation of this size"):
        render_template(template.replace("messages[-200:]", "range(90000)"), turns[:40])


def test_a_template_that_exceeds_its_limits_twice_ends_the_work() -> None:
    renderer = ChatRenderer(type("T", (), {"chat_template": "{{ 'a' * 10 ** 10 }} tool_calls"}), "m")
    with pytest.raises(
        (EncodeError, ModelError), match="the chat template of m exceeds its limits: it makes"
    ):
        renderer.render(MESSAGES)
    with pytest.raises(ModelError, match="the chat template of m exceeds its limits: it makes"):
        renderer.render(MESSAGES)


def test_the_proof_of_such_a_template_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError, match="exceeds its limits"):
        prove_template(ChatTemplate("t", ENDLESS["a power"], {}))
    file = tmp_path / "endless.jinja"
    file.write_text(ENDLESS["repeated text"])
    assert main(["doctor", "--template", str(file)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.model
@pytest.mark.parametrize("command", [["simulate"], ["doctor"], ["curve"]])
def test_a_log_with_such_a_template_is_one_line(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from radixcache.models.embedded import embedded_folder

    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((Path(embedded_folder(lambda _: None)) / name).read_bytes())
    (folder / "chat_template.jinja").write_text(ENDLESS["repeated text"])
    log = tmp_path / "log.jsonl"
    log.write_text('{"messages": [{"role": "user", "content": "hi"}]}\n' * 5)
    assert main([*command, str(log), "--tokenizer", str(folder)]) == 2
    error = capsys.readouterr().err
    assert "exceeds its limits: it makes more text than a conversation of this size may take" in error
    assert "Traceback" not in error
