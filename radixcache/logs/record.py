"""What one line of a prompt log becomes, whatever format it was written in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["BadLine", "InvalidRecordError", "LogRequest", "Prompt"]


class InvalidRecordError(ValueError):
    """A record is not a request; the message says which field is wrong and how."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """The prompt of a request: exactly one of the three forms is set.

    Attributes:
        messages: chat-completions messages as logged; `tools` may accompany them.
        tools: tool definitions as logged.
        text: plain text to continue.
        token_ids: token ids, each in [0, 2**31).
    """

    messages: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    text: str | None = None
    token_ids: list[int] | None = None


@dataclass(frozen=True, slots=True)
class LogRequest:
    """One request of a log. Exactly one of `messages`, `prompt` and `prompt_token_ids` is set.

    Attributes:
        source: the file it came from as given, `-` for standard input.
        line: its line there, from 1.
        messages: chat-completions messages as logged (`content` may be null or a list of text parts).
        tools: tool definitions as logged; only with `messages`.
        prompt: plain text to continue.
        prompt_token_ids: token ids, each in [0, 2**31).
        session: the conversation it belongs to.
        timestamp: seconds; only differences between requests mean anything.
        max_tokens: the most new tokens asked for, at least 1.
        response: what was answered at the time, as logged.
        raw: the whole record as parsed, before anything was unwrapped.
    """

    source: str
    line: int
    messages: list[dict[str, Any]] | None
    tools: list[dict[str, Any]] | None
    prompt: str | None
    prompt_token_ids: list[int] | None
    session: str | None
    timestamp: float | None
    max_tokens: int | None
    response: Any
    raw: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no request: where it is and what is wrong with it."""

    source: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.source}, line {self.line}: {self.reason}"
