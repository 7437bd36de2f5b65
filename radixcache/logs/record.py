"""What one line of a prompt log becomes, whatever format it was written in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["BadLine", "BlockTrace", "InvalidRecordError", "LogRequest", "Prompt"]


class InvalidRecordError(ValueError):
    """A record is not a request; the message says which field is wrong and how."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """The prompt of a request: one of the three forms is set, or none where only hashes were logged.

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
class BlockTrace:
    """A prompt of which only hashes of its blocks were logged.

    Attributes:
        hash_ids: what names each block and everything before it: integers or texts.
        block_tokens: tokens a hash stands for; the last one may stand for fewer.
        prompt_tokens: length of the prompt; past the last hash there may be more that has none.
        output_tokens: length of the answer, 0 if unknown.
        scope: equal hashes mean equal blocks only within the same scope.
        namespace: a namespace of its own for the prompts of this scope; empty if they need none.
    """

    hash_ids: Sequence[int | str]
    block_tokens: int
    prompt_tokens: int
    output_tokens: int
    scope: str
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class LogRequest:
    """One request of a log. Exactly one of `messages`, `prompt`, `prompt_token_ids` and `blocks` is set.

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
        blocks: hashes in place of the prompt; only where traces are asked for.
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
    blocks: BlockTrace | None = None


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no request: where it is and what is wrong with it."""

    source: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.source}, line {self.line}: {self.reason}"
