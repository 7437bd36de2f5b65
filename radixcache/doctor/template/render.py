"""Rendering of a chat template, and which line of it wrote what."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from radixcache.doctor.template.source import ChatTemplate
from radixcache.errors import ModelError, RadixCacheError
from radixcache.prompts.meter import TemplateLimitError
from radixcache.prompts.sandbox import render_template, trace_template

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
    """Renders conversations with one template, as `radixcache.prompts.sandbox` does."""

    def __init__(self, template: ChatTemplate) -> None:
        self.template = template

    def render(
        self, messages: Sequence[Message], tools: Sequence[Message] | None, *, generation_prompt: bool
    ) -> str:
        """A conversation as text.

        Raises:
            RefusedError: the template does not compile, or refuses the messages; says why in one line.
            ModelError: the template would take too much time or memory.
        """
        try:
            special = self.template.special_tokens
            return render_template(
                self.template.text, messages, tools, special, generation_prompt=generation_prompt
            )
        except TemplateLimitError as error:
            name = self.template.name
            raise ModelError(f"the chat template of {name} exceeds its limits: {error}") from None
        except Exception as error:  # a template is a program of the model's author: it may raise anything
            raise RefusedError(" ".join(str(error).split())[:200] or type(error).__name__) from None

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
        clock = {} if now is None else {"strftime_now": now.strftime}
        try:
            written = trace_template(
                self.template.text,
                messages,
                tools,
                {**self.template.special_tokens, **clock},
                generation_prompt=generation_prompt,
            )
        except Exception:  # as above
            return None
        starts, lines, length = [], [], 0
        for line, text in written:
            literal = text in self.template.text  # text of the template, that may span lines of it
            for number, piece in enumerate(text.splitlines(keepends=True)):
                starts.append(length)
                lines.append(line + number * literal)
                length += len(piece)
        return Lines("".join(text for _, text in written), starts, lines)
