"""The text of a request as people read it, by the part of the request that each stretch comes from."""

from __future__ import annotations

from typing import NamedTuple

from radixcache.logs.record import LogRequest
from radixcache.prompts.encode import EncodeError, PromptEncoder
from radixcache.prompts.parts import Part

__all__ = ["Laid", "Part", "lay_out"]


class Laid(NamedTuple):
    """A request as text.

    Attributes:
        entry: as logged.
        text: as it is tokenised, special tokens as text.
        parts: in order; together they are the whole text.
    """

    entry: LogRequest
    text: str
    parts: list[Part]

    def part_at(self, at: int) -> Part:
        """The part that a character is in; the last part for the end of the text."""
        return next((part for part in self.parts if part.start <= at < part.stop), self.parts[-1])

    def line_at(self, at: int) -> int:
        """The line of a character in the text of its part, from 1."""
        return 1 + self.text.count("\n", self.part_at(at).start, at)


def lay_out(entry: LogRequest, encoder: PromptEncoder) -> Laid | None:
    """Render a request and find its parts; None for one that the template refuses."""
    if entry.messages is None:
        text = entry.prompt or ""
        return Laid(entry, text, [Part(0, len(text), "prompt")])
    try:
        rendered = encoder.rendered(entry.messages, entry.tools, entry.template_kwargs)
        parts = encoder.parts_of(rendered, entry.messages, entry.tools)
    except EncodeError:
        return None
    text = encoder.unmask(rendered.text)
    if text != rendered.text:
        stops = [len(encoder.unmask(rendered.text[: part.stop])) for part in parts]
        starts = [0, *stops[:-1]]
        parts = [p._replace(start=a, stop=b) for p, a, b in zip(parts, starts, stops, strict=True)]
    return Laid(entry, text, parts)
