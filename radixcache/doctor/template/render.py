"""Rendering of a chat template, by the library that renders it in use, and which line of it wrote what."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from radixcache.doctor.template.source import ChatTemplate
from radixcache.errors import RadixCacheError

__all__ = ["Lines", "RefusedError", "Renderer"]

Message = Mapping[str, Any]


class RefusedError(RadixCacheError):
    """The template raised an error for a conversation."""


@dataclass(frozen=True, slots=True)
class Lines:
    """A rendering, and where it comes from.

    Attributes:
        text: all of it.
        starts: where each piece starts, in characters, ascending from 0.
        lines: line of the template that wrote each piece, from 1.
    """

    text: str
    starts: Sequence[int]
    lines: Sequence[int]

    def at(self, position: int) -> int | None:
        """The line that wrote the character there; None past the end."""
        if position >= len(self.text):
            return None
        return self.lines[bisect_right(self.starts, position) - 1]


class Renderer:
    """Renders conversations with one template, in transformers' sandbox, as transformers and vLLM do."""

    def __init__(self, template: ChatTemplate) -> None:
        self.template = template

    def render(
        self, messages: Sequence[Message], tools: Sequence[Message] | None, *, generation_prompt: bool
    ) -> str:
        """A conversation as text.

        Raises:
            RefusedError: the template does not compile, or refuses the messages; says why in one line.
        """
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            # TypedDicts and callables are what it is annotated with; objects of JSON are what it wants
            render: Callable[..., Any] = render_jinja_template
            (text,), _ = render(
                [list(messages)],
                tools=None if tools is None else list(tools),
                chat_template=self.template.text,
                add_generation_prompt=generation_prompt,
                **self.template.special_tokens,
            )
        except Exception as error:  # a template is a program of the model's author: it may raise anything
            raise RefusedError(" ".join(str(error).split())[:200] or type(error).__name__) from None
        return str(text)

    def trace(
        self,
        messages: Sequence[Message],
        tools: Sequence[Message] | None,
        *,
        generation_prompt: bool,
        now: datetime | None = None,
    ) -> Lines | None:
        """A rendering with the lines that wrote it, at a time of one's choice.

        None if the template refuses the messages. What a macro or a captured block writes counts for the
        line where it is put out.
        """
        from transformers.utils import chat_template_utils as library

        clock = {} if now is None else {"strftime_now": now.strftime}
        try:
            compiled = library._compile_jinja_template(self.template.text)
            context = compiled.new_context(
                {
                    "messages": list(messages),
                    "tools": None if tools is None else list(tools),
                    "documents": None,
                    "add_generation_prompt": generation_prompt,
                    **self.template.special_tokens,
                    **clock,
                }
            )
            pieces, starts, lines, length = [], [], [], 0
            running = compiled.root_render_func(context)
            for written in running:
                line = compiled.get_corresponding_lineno(running.gi_frame.f_lineno)
                literal = written in self.template.text  # text of the template, that may span lines of it
                for number, piece in enumerate(str(written).splitlines(keepends=True)):
                    pieces.append(piece)
                    starts.append(length)
                    lines.append(line + number * literal)
                    length += len(piece)
        except Exception:  # as above
            return None
        return Lines("".join(pieces), starts, lines)
