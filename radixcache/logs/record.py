"""What a prompt log becomes, whatever format it was written in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from radixcache.logs.usage import Usage

__all__ = ["BadLine", "BlockTrace", "Body", "InvalidRecordError", "LogRequest", "Message"]

Message = dict[str, Any]


class InvalidRecordError(ValueError):
    """A record is not a request; the message says which field is wrong and how."""


@dataclass(frozen=True, slots=True)
class Body:
    """The prompt of a request, as an API was given it, in one form for all APIs.

    One of `messages`, `text` and `token_ids` is set.

    Attributes:
        messages: chat-completions messages. Content is null, text, or a list of parts: `text` parts and
            `media` parts (see `radixcache.logs.media`). Marks such as `cache_control` are kept.
        tools: tool definitions in the form of chat completions.
        text: plain text to continue.
        token_ids: token ids, each in [0, 2**31).
        template_kwargs: what the chat template is given beside messages and tools.
        max_tokens: the most new tokens asked for, at least 1; None without a limit.
        model, adapter, cache_salt: requests that differ in one of them share no KV.
        notes: fields that were not read, though they may matter; each a short sentence.
    """

    messages: list[Message] | None = None
    tools: list[dict[str, Any]] | None = None
    text: str | None = None
    token_ids: list[int] | None = None
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    model: str | None = None
    adapter: str | None = None
    cache_salt: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BlockTrace:
    """A prompt of which only hashes of its blocks were logged.

    Attributes:
        hash_ids: what names each block and everything before it: integers or texts.
        block_tokens: tokens a hash stands for; the last one may stand for fewer.
        prompt_tokens: length of the prompt; past the last hash there may be more that has none.
        output_tokens: length of the answer, 0 if unknown.
        scope: equal hashes mean equal blocks only within the same scope.
        namespace: a separate namespace for the prompts of this scope; empty if they need none.
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
        messages: chat-completions messages, as in `Body`.
        tools: tool definitions; only with `messages`.
        prompt: plain text to continue.
        prompt_token_ids: token ids, each in [0, 2**31).
        session: the conversation it belongs to.
        timestamp: seconds; only differences between requests mean anything.
        max_tokens: the most new tokens asked for, at least 1.
        response: what was answered at the time, as logged.
        raw: the whole record as parsed, before anything was unwrapped.
        blocks: hashes in place of the prompt; only where traces are asked for.
        format: name of the format it was read from.
        template_kwargs, model, adapter, cache_salt, notes: as in `Body`.
        usage: tokens that the provider counted, where that was logged.
        partial: why the prompt is not the whole prompt, empty if it is.
    """

    source: str
    line: int
    messages: list[Message] | None
    tools: list[dict[str, Any]] | None
    prompt: str | None
    prompt_token_ids: list[int] | None
    session: str | None
    timestamp: float | None
    max_tokens: int | None
    response: Any
    raw: dict[str, Any]
    blocks: BlockTrace | None = None
    format: str = ""
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    adapter: str | None = None
    cache_salt: str | None = None
    usage: Usage | None = None
    notes: tuple[str, ...] = ()
    partial: str = ""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no request: where it is and what is wrong with it."""

    source: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.source}, line {self.line}: {self.reason}"
