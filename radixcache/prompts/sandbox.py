"""Chat templates rendered as transformers and vLLM render them, with limits on time and memory.

A template gets plain JSON values, cannot change them, cannot reach Python's internals, and cannot run or
grow for ever (see `radixcache.prompts.meter`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache, wraps
from typing import Any

from jinja2 import Template, TemplateError, nodes, pass_context
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from radixcache.prompts.meter import (
    TemplateLimitError,
    check_call,
    check_filter,
    check_format,
    check_operator,
    meter,
    metered,
)

__all__ = ["render_template", "trace_template"]

Message = Mapping[str, Any]

_MOST_SOURCE = 1 << 22
_REMOVED_FILTERS = ("pprint", "urlize", "xmlattr")
_REASONING = ("reasoning_content", "thinking", "reasoning")


def render_template(
    source: str,
    messages: Sequence[Message],
    tools: Sequence[Message] | None = None,
    variables: Mapping[str, Any] | None = None,
    *,
    generation_prompt: bool = True,
) -> str:
    """The text of a conversation.

    Args:
        source: the template.
        messages: JSON objects; reasoning is passed on under every name that templates know it by.
        tools: JSON objects.
        variables: whatever else the template is given, such as `bos_token`.
        generation_prompt: ask for an answer at the end.

    Raises:
        TemplateLimitError: the template would take too much time or memory.
        Exception: whatever the template raises: it is a program.
    """
    given = _variables(messages, tools, generation_prompt, variables or {})
    with metered((source, given)):
        return _compiled(source).render(given)


def trace_template(
    source: str,
    messages: Sequence[Message],
    tools: Sequence[Message] | None = None,
    variables: Mapping[str, Any] | None = None,
    *,
    generation_prompt: bool = True,
) -> list[tuple[int, str]]:
    """The pieces of the same text, each with the line of the template that wrote it, from 1.

    What a macro or a captured block writes counts for the line where it is put out.
    """
    given = _variables(messages, tools, generation_prompt, variables or {})
    with metered((source, given)):
        template = _compiled(source)
        running: Any = template.root_render_func(template.new_context(given))
        return [
            (template.get_corresponding_lineno(running.gi_frame.f_lineno), str(piece)) for piece in running
        ]


def _variables(
    messages: Sequence[Message],
    tools: Sequence[Message] | None,
    generation_prompt: bool,
    variables: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "messages": [_with_reasoning(message) for message in messages],
        "tools": None if tools is None else list(tools),
        "documents": None,
        "add_generation_prompt": generation_prompt,
        **variables,
    }


def _with_reasoning(message: Message) -> dict[str, Any]:
    """A message whose reasoning has the names that templates read, whichever name it was logged under."""
    reasoning = next((message[name] for name in _REASONING if message.get(name) is not None), None)
    if reasoning is None:
        return dict(message)
    return {"thinking": reasoning, **message, "reasoning_content": reasoning}


class _Generator(CodeGenerator):
    """Writes the code of a template with calls that count what it does."""

    def blockvisit(self, block: Any, frame: Frame) -> None:
        outputs = (part for node in block if isinstance(node, nodes.Output) for part in node.nodes)
        written = sum(len(part.data) for part in outputs if isinstance(part, nodes.TemplateData))
        self.writeline(f"environment.tick({written})")
        super().blockvisit(block, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 - jinja's name
        self.write("environment.concatenate((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:  # noqa: N802
        counted = "made" if isinstance(node.arg, nodes.Slice) else None
        self._wrapped(counted, super().visit_Getitem, node, frame)

    def visit_List(self, node: nodes.List, frame: Frame) -> None:  # noqa: N802
        self._wrapped("literal", super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:  # noqa: N802
        self._wrapped("literal", super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:  # noqa: N802
        self._wrapped("literal" if node.ctx == "load" else None, super().visit_Tuple, node, frame)

    def _wrapped(
        self, function: str | None, visit: Callable[[Any, Frame], None], node: Any, frame: Frame
    ) -> None:
        if function is not None:
            self.write(f"environment.{function}(")
        visit(node, frame)
        if function is not None:
            self.write(")")


class _Environment(ImmutableSandboxedEnvironment):
    code_generator_class = _Generator
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def tick(self, characters: int) -> None:
        meter().tick(characters)

    def made(self, value: Any) -> Any:
        return meter().made(value)

    def literal(self, value: Any) -> Any:
        return meter().literal(value)

    def concatenate(self, parts: tuple[Any, ...]) -> str:
        return "".join([str(meter().written(part)) for part in parts])

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        check_operator(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        formatted = super().wrap_str_format(value)
        if formatted is None:
            return None

        def run(*arguments: Any, **named: Any) -> str:
            check_format(value.__self__, (*arguments, *named.values()))
            return formatted(*arguments, **named)

        return run

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        args = check_call(__obj, args, kwargs)
        return meter().made(super().call(__context, __obj, *args, **kwargs))


class _GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}` marks what the model wrote; here it only opens a scope."""

    tags = {"generation"}  # noqa: RUF012 - as jinja declares it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class _Namespace(Namespace):
    """A namespace without names that begin with an underscore, whose text is not its content."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # any name may be a keyword, `self` too
        for name in kwargs:
            _check_name(name)
        Namespace.__init__(*args, **kwargs)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<Namespace>"


def _check_name(name: str) -> None:
    if name.startswith("_"):
        raise SecurityError(f"a namespace of a chat template cannot hold {name!r}")


class _MakeDict:
    """`dict` as far as templates need it."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return meter().literal(dict(*arguments, **named))

    def fromkeys(self, *arguments: Any) -> Any:
        return meter().literal(dict.fromkeys(*arguments))


@pass_context
def _finalize(_: Context, value: Any) -> Any:
    return meter().written(value)


def _counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that checks what it is asked for, and counts what it makes."""
    leading = int(hasattr(function, "jinja_pass_arg"))  # the context or environment comes first

    @wraps(function)
    def run(*arguments: Any, **named: Any) -> Any:
        value = check_filter(name, arguments[leading], arguments[leading + 1 :], named)
        return meter().made(function(*arguments[:leading], value, *arguments[leading + 1 :], **named))

    return run


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as templates want it: without the escapes that Jinja adds for HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)


@lru_cache(maxsize=1)
def _environment() -> _Environment:
    made = _Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_GenerationTag, loopcontrols],
        finalize=_finalize,
        optimized=False,  # constants are computed where they are counted
    )
    for name in _REMOVED_FILTERS:
        del made.filters[name]
    del made.globals["lipsum"]
    made.filters["tojson"] = _to_json
    made.filters = {name: _counted(name, function) for name, function in made.filters.items()}
    made.globals |= {
        "raise_exception": _refuse,
        "strftime_now": _now,
        "dict": _MakeDict(),
        "namespace": _Namespace,
    }
    return made


@lru_cache(maxsize=16)
def _compiled(source: str) -> Template:
    if len(source) > _MOST_SOURCE:
        raise TemplateLimitError(f"it is {len(source):,} characters long: at most {_MOST_SOURCE:,}")
    return _environment().from_string(source)
