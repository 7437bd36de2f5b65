"""Conversations that only ever append.

A chat template that re-renders an earlier turn, or a tokenizer that joins the model's own output differently
than the model emitted it, changes tokens in the middle of the prompt and so loses the cache from there on. A
`ChatSession` keeps the exact ids that were computed and appends to them. What is said is text: a special
token written in it opens and ends no turn.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import Any, Protocol, Unpack

from radixcache.engine.handle import RequestHandle
from radixcache.engine.options import RequestOptions
from radixcache.engine.params import SamplingParams
from radixcache.engine.result import GenerationResult
from radixcache.engine.streams import AsyncTextIterator, TextIterator
from radixcache.errors import ChatBusyError, RadixCacheError
from radixcache.models.loaded import LoadedModel
from radixcache.prompts import ChatRenderer, check_text, choose_template
from radixcache.tokens import pack

# Stands for an answer when the text that follows it in the template is looked up.
_MARK = "\uf8f1\uf8f2\uf8f3"


class ChatEngine(Protocol):
    """What a conversation needs of an engine."""

    @property
    def model(self) -> LoadedModel:
        """The model, with its tokenizer."""

    def submit(
        self, prompt: bytes, params: SamplingParams | None = None, **options: Unpack[RequestOptions]
    ) -> RequestHandle:
        """Start a request."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a turn cost.

    Attributes:
        prompt_tokens: tokens of the whole conversation up to the answer.
        cached_tokens: those of them that were not computed again.
        completion_tokens: tokens generated.
        ttft: seconds to the first of them.
        finish_reason: "stop", "length" or "abort".
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    ttft: float
    finish_reason: str


@dataclass(slots=True, eq=False)
class _Turn:
    """A turn that was begun and is not part of the conversation yet."""

    handle: RequestHandle
    text: str
    ids: tuple[int, ...]


class ChatSession:
    """A conversation with an engine's model: one turn at a time, from whatever thread.

    Attributes:
        messages: what was said, as role and content.
        token_ids: exact ids of everything computed so far; the next turn extends them.
        last_usage: cost of the last turn, None before the first.
    """

    def __init__(
        self,
        engine: ChatEngine,
        *,
        system: str | None = None,
        tools: Sequence[dict[str, Any]] | None = None,
        params: SamplingParams | None = None,
        **options: Unpack[RequestOptions],
    ) -> None:
        """Start a conversation; `options` go with every turn, as for `Engine.submit`.

        A template that knows no tools gets them in the system message, one JSON object a line.

        Raises:
            RadixCacheError: the model has no chat template.
            ValueError: `system` or `tools` is of the wrong type, or holds text that cannot be encoded.
        """
        tokenizer = engine.model.tokenizer
        if choose_template(tokenizer, with_tools=bool(tools)) is None:
            raise RadixCacheError(f"{engine.model.name} has no chat template")
        if system is not None:
            check_text("system", system)
        _check_tools(tools)
        _check_params(params)
        self._engine = engine
        self._tokenizer: Any = tokenizer
        self._renderer = ChatRenderer(tokenizer, engine.model.name)
        self._tools = list(tools) if tools else None
        self._params = params or SamplingParams()
        self._options = options
        self.messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
        self.token_ids: tuple[int, ...] = ()
        self.last_usage: Usage | None = None
        self._lock = Lock()
        self._turn: _Turn | None = None

    def send(self, text: str, *, params: SamplingParams | None = None) -> GenerationResult:
        """Say something and wait for the whole answer.

        Raises:
            PromptTooLongError: the conversation no longer fits; it stays as it was.
            ChatBusyError: the turn before is not over.
            EncodeError: the chat template refuses the conversation.
            ValueError: `text` is not a str, or cannot be encoded.
        """
        turn = self._begin(text, params)
        try:
            result = turn.handle.result()
        finally:
            turn.handle.abort()
        self._remember(turn, result)
        return result

    def stream(self, text: str, *, params: SamplingParams | None = None) -> TextIterator:
        """Say something and get the answer in pieces.

        Closing or dropping the iterator early ends the answer there; the turn then holds what was said.
        """
        turn = self._begin(text, params)
        return TextIterator(turn.handle, partial(self._remember, turn))

    async def asend(self, text: str, *, params: SamplingParams | None = None) -> GenerationResult:
        """`send` for an event loop."""
        turn = self._begin(text, params)
        try:
            result = await turn.handle.wait()
        finally:
            turn.handle.abort()
        self._remember(turn, result)
        return result

    def astream(self, text: str, *, params: SamplingParams | None = None) -> AsyncTextIterator:
        """`stream` for an event loop."""
        turn = self._begin(text, params)
        return AsyncTextIterator(turn.handle, partial(self._remember, turn))

    def _begin(self, text: str, params: SamplingParams | None) -> _Turn:
        check_text("text", text)
        _check_params(params)
        chosen = params or self._params
        if chosen.n != 1:
            chosen = replace(chosen, n=1)
        with self._lock:
            self._settle()
            ids = self.token_ids + self._turn_ids(text)
            handle = self._engine.submit(pack(ids), chosen, **self._options)
            self._turn = _Turn(handle, text, ids)
            return self._turn

    def _settle(self) -> None:
        """Append the previous turn if it is over and was not appended yet; a failed one leaves nothing."""
        turn = self._turn
        if turn is None:
            return
        if not turn.handle.done and not turn.handle.aborting:
            raise ChatBusyError(
                "a turn of this conversation is still running: wait for it or close its stream"
            )
        with suppress(Exception):
            self._append(turn, turn.handle.result())
        self._turn = None

    def _turn_ids(self, text: str) -> tuple[int, ...]:
        """Ids that the new turn adds: what closes the last answer, the turn, and the answer's head."""
        turn = {"role": "user", "content": text}
        if not self.token_ids:
            rendered = self._renderer.render([*self.messages, turn], self._tools).text
        else:
            asked = [message for message in self.messages if message["role"] != "assistant"][-1:]
            mark = _MARK
            while mark in text or any(mark in message["content"] for message in asked):
                mark += _MARK[0]
            conversation = [*asked, {"role": "assistant", "content": mark}, turn]
            rendered = self._renderer.render(conversation, self._tools).text.rpartition(mark)[2]
            rendered = self._without_repeated_end(rendered)
        return tuple(self._renderer.encode(rendered))

    def _without_repeated_end(self, rendered: str) -> str:
        """Drop the end-of-turn token from the text if the model already emitted it itself."""
        last = self._tokenizer.decode([self.token_ids[-1]])
        if self.token_ids[-1] in self._engine.model.eos_token_ids and rendered.startswith(last):
            return rendered[len(last) :]
        return rendered

    def _remember(self, turn: _Turn, result: GenerationResult) -> None:
        """Make a turn part of the conversation, unless that was done when the next one began."""
        with self._lock:
            if self._turn is turn:
                self._append(turn, result)
                self._turn = None

    def _append(self, turn: _Turn, result: GenerationResult) -> None:
        self.token_ids = turn.ids + result.token_ids
        self.messages += [
            {"role": "user", "content": turn.text},
            {"role": "assistant", "content": result.text},
        ]
        self.last_usage = Usage(
            result.prompt_tokens,
            result.cached_tokens,
            result.completion_tokens,
            result.ttft,
            result.finish_reason,
        )


def _check_tools(tools: Any) -> None:
    """Raises ValueError unless tools are JSON objects whose text can be encoded."""
    if tools is None:
        return
    if not isinstance(tools, list | tuple) or not all(isinstance(tool, dict) for tool in tools):
        raise ValueError(f"tools must be a list of JSON objects, got {tools!r}")
    for place, tool in enumerate(tools):
        try:
            check_text(f"tools[{place}]", json.dumps(tool, ensure_ascii=False))
        except TypeError as error:
            raise ValueError(f"tools[{place}] must be JSON: {error}") from None


def _check_params(params: Any) -> None:
    if params is not None and not isinstance(params, SamplingParams):
        raise ValueError(f"params must be SamplingParams, got {params!r}")
