"""Conversations that only ever append.

A chat template that renders an earlier turn anew, or a tokenizer that joins the model's own
output otherwise than the model emitted it, changes tokens in the middle of the prompt and so
loses the cache from there on. A `ChatSession` keeps the exact ids that were computed and
appends to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from radixcache.engine.params import SamplingParams
from radixcache.engine.streams import AsyncTextIterator, TextIterator
from radixcache.errors import RadixCacheError

if TYPE_CHECKING:
    from radixcache.engine import Engine, GenerationResult, RequestHandle

# Stands for an answer when the text that follows it in the template is looked up; private-use
# characters, so that no template or user text contains it.
_MARK = "\uf8f1\uf8f2\uf8f3"


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


class ChatSession:
    """A conversation with an engine's model.

    Attributes:
        messages: what was said, as role and content.
        token_ids: exact ids of everything computed so far; the next turn extends them.
        last_usage: cost of the last turn, None before the first.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        system: str | None = None,
        tools: Sequence[dict[str, Any]] | None = None,
        params: SamplingParams | None = None,
        namespace: str = "",
    ) -> None:
        """Start a conversation.

        Raises:
            RadixCacheError: the model has no chat template.
        """
        tokenizer = engine.model.tokenizer
        if tokenizer is None or not tokenizer.chat_template:
            raise RadixCacheError(f"{engine.model.name} has no chat template")
        self._engine = engine
        self._tokenizer: Any = tokenizer
        self._tools = list(tools) if tools else None
        self._params = params or SamplingParams()
        self._namespace = namespace
        self.messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
        self.token_ids: tuple[int, ...] = ()
        self.last_usage: Usage | None = None

    def send(self, text: str, *, params: SamplingParams | None = None) -> GenerationResult:
        """Say something and wait for the whole answer.

        Raises:
            PromptTooLongError: the conversation no longer fits; it stays as it was.
        """
        handle, ids = self._submit(text, params)
        try:
            result = handle.result()
        finally:
            handle.abort()
        self._remember(text, ids, result)
        return result

    def stream(self, text: str, *, params: SamplingParams | None = None) -> TextIterator:
        """Say something and get the answer piece by piece.

        Closing or dropping the iterator early ends the answer there; the turn then holds what was said.
        """
        handle, ids = self._submit(text, params)
        return TextIterator(handle, partial(self._remember, text, ids))

    async def asend(self, text: str, *, params: SamplingParams | None = None) -> GenerationResult:
        """`send` for an event loop."""
        handle, ids = self._submit(text, params)
        try:
            result = await handle.wait()
        finally:
            handle.abort()
        self._remember(text, ids, result)
        return result

    def astream(self, text: str, *, params: SamplingParams | None = None) -> AsyncTextIterator:
        """`stream` for an event loop."""
        handle, ids = self._submit(text, params)
        return AsyncTextIterator(handle, partial(self._remember, text, ids))

    def _submit(self, text: str, params: SamplingParams | None) -> tuple[RequestHandle, tuple[int, ...]]:
        chosen = params or self._params
        if chosen.n != 1:
            chosen = replace(chosen, n=1)
        ids = self.token_ids + self._turn_ids(text)
        return self._engine.submit(ids, chosen, namespace=self._namespace), ids

    def _turn_ids(self, text: str) -> tuple[int, ...]:
        """Ids that the new turn adds: what closes the last answer, the turn, and the answer's head."""
        turn = {"role": "user", "content": text}
        if not self.token_ids:
            rendered = self._render([*self.messages, turn])
        else:
            asked = [message for message in self.messages if message["role"] != "assistant"][-1:]
            rendered = self._render([*asked, {"role": "assistant", "content": _MARK}, turn])
            rendered = rendered.rpartition(_MARK)[2]
            rendered = self._without_repeated_end(rendered)
        return tuple(self._tokenizer.encode(rendered, add_special_tokens=False))

    def _without_repeated_end(self, rendered: str) -> str:
        """Drop the end-of-turn token from the text if the model already emitted it itself."""
        last = self._tokenizer.decode([self.token_ids[-1]])
        if self.token_ids[-1] in self._engine.model.eos_token_ids and rendered.startswith(last):
            return rendered[len(last) :]
        return rendered

    def _render(self, messages: list[dict[str, Any]]) -> str:
        text: str = self._tokenizer.apply_chat_template(
            messages, tools=self._tools, tokenize=False, add_generation_prompt=True
        )
        return text

    def _remember(self, text: str, ids: tuple[int, ...], result: GenerationResult) -> None:
        self.token_ids = ids + result.token_ids
        self.messages += [
            {"role": "user", "content": text},
            {"role": "assistant", "content": result.text},
        ]
        self.last_usage = Usage(
            result.prompt_tokens,
            result.cached_tokens,
            result.completion_tokens,
            result.ttft,
            result.finish_reason,
        )
