"""The one renderer of conversations: the template, where tools go, roles, and whose special tokens count."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from radixcache.errors import ModelError, RadixCacheError
from radixcache.prompts.messages import Message, check_messages, normalise, place_tools
from radixcache.prompts.meter import TemplateLimitError
from radixcache.prompts.plain import PlainText

__all__ = ["ChatRenderer", "EncodeError", "Rendered", "choose_template"]

_PROBE = "qzxj"
_MOST_OVERRUNS = 2


class EncodeError(RadixCacheError):
    """One request cannot be turned into tokens for this model."""


class Rendered(NamedTuple):
    """A conversation as text.

    Attributes:
        text: what is tokenised: special tokens of the template as text, those of messages masked (see
            `PlainText`).
        messages: what the template was given, masked: text content, one message more than was given where a
            system message was made to hold tools.
    """

    text: str
    messages: list[Message]


def choose_template(tokenizer: Any, *, with_tools: bool) -> str | None:
    """The source of the chat template, the one for tools if there are several; None if there is none."""
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict):
        named = template.get("tool_use") if with_tools else None
        template = named or template.get("default")
    return str(template) if template else None


class ChatRenderer:
    """Renders conversations with a model's chat template, the generation prompt added.

    A template that knows no `tools` gets the definitions as lines of JSON at the end of the system message;
    one that knows no `tool_calls` gets the calls as lines of JSON in the assistant's content; tool results
    become user messages where the template would drop them. A special token that is written in a message of
    any role is text. Of added tokens that are not flagged as special (as `<think>`) that holds for those that
    the template writes around turns, but not in an assistant's messages: a model writes them.

    Args:
        tokenizer: a transformers tokenizer, or an object with its `chat_template`, `special_tokens_map` (if
            it has any) and `encode`; None for a model without one.
        model_name: named in errors.
        media: images, audio and files are rendered as marks (see `radixcache.prompts.media`); else refused.

    Attributes:
        plain: encodes what was rendered.
    """

    def __init__(self, tokenizer: Any, model_name: str, *, media: bool = False) -> None:
        self.plain = PlainText(tokenizer)
        self._media = media
        self._tokenizer = tokenizer
        self._model_name = model_name
        self._special: Mapping[str, str] = getattr(tokenizer, "special_tokens_map", None) or {}
        self._tool_roles: dict[str, str] = {}
        self._written: dict[str, str] = {}
        self._overruns = 0

    def template(self, *, with_tools: bool) -> str:
        """The source of the template; ModelError if there is none."""
        template = choose_template(self._tokenizer, with_tools=with_tools)
        if template is None:
            raise ModelError(
                f"{self._model_name} has no chat template: logs of messages cannot be used with it"
            )
        return template

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Message] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> Rendered:
        """The text of a conversation.

        Args:
            messages: as the chat-completions API takes them.
            tools: definitions as it takes them.
            variables: what the template is given beside these. `add_generation_prompt` False leaves out the
                beginning of the next turn; `continue_final_message` True leaves the last message open, too.

        Raises:
            EncodeError: a message is malformed or holds text that cannot be encoded, or the template refuses
                the messages.
            ModelError: there is no template, or it has exceeded its limits twice.
        """
        try:
            check_messages(messages, tools, media=self._media)
        except ValueError as error:
            raise EncodeError(str(error)) from None
        template = self.template(with_tools=bool(tools))
        structured = re.search(r"\btool_calls\b", template) is not None
        role = "tool" if structured else self._tool_role(template)
        written = self._written_by(template)
        masked = [self._mask(f"messages[{place}]", m, written) for place, m in enumerate(messages)]
        conversation = normalise(masked, structured_calls=structured, tool_role=role)
        masked_tools = [self._mask(f"tools[{place}]", t, written) for place, t in enumerate(tools or ())]
        conversation, placed = place_tools(conversation, masked_tools or None, template)
        given = dict(variables or {})
        goes_on = bool(given.pop("continue_final_message", False))
        prompt = bool(given.pop("add_generation_prompt", True)) and not goes_on
        text = self._apply(template, conversation, placed, given, generation_prompt=prompt)
        if goes_on:
            text = _left_open(text, str(conversation[-1]["content"]))
        return Rendered(text, conversation)

    def encode(self, text: str) -> list[int]:
        """Token ids of a rendered text; EncodeError if a message holds what cannot be encoded as text."""
        try:
            return self.plain.encode(text)
        except ValueError as error:
            raise EncodeError(str(error)) from None

    def _mask(self, name: str, value: Message, written: str) -> Message:
        try:
            return self.plain.mask(value, "" if value.get("role") == "assistant" else written)
        except ValueError as error:
            raise EncodeError(f"{name} {error}") from None

    def _apply(
        self,
        template: str,
        messages: list[Message],
        tools: list[Message] | None,
        variables: Mapping[str, Any] | None = None,
        *,
        generation_prompt: bool = True,
    ) -> str:
        from radixcache.prompts.sandbox import render_template  # imports jinja2

        try:
            given = {**self._special, **(variables or {})}
            return render_template(template, messages, tools, given, generation_prompt=generation_prompt)
        except TemplateLimitError as error:
            self._overruns += 1
            what = f"the chat template of {self._model_name} exceeds its limits: {error}"
            if self._overruns >= _MOST_OVERRUNS:
                raise ModelError(what) from None
            raise EncodeError(what) from None
        except Exception as error:  # a template is a program of the model's author: it may raise anything
            reason = " ".join(str(error).split()) or type(error).__name__
            raise EncodeError(
                f"the chat template of {self._model_name} refused the messages: {reason}"
            ) from None

    def _tool_role(self, template: str) -> str:
        """`tool` if the template prints messages of that role, else `user`: a result must not vanish."""
        if template not in self._tool_roles:
            turns = [("user", "a"), ("assistant", "b"), ("tool", _PROBE)]
            conversation = [{"role": role, "content": content} for role, content in turns]
            shown = False
            with suppress(EncodeError):
                shown = _PROBE in self._apply(template, conversation, None)
            self._tool_roles[template] = "tool" if shown else "user"
        return self._tool_roles[template]

    def _written_by(self, template: str) -> str:
        """What the template writes around turns without any text; empty if it refuses these."""
        if template not in self._written:
            turns = [{"role": role, "content": ""} for role in ("user", "assistant", "user")]
            text = ""
            with suppress(EncodeError):
                text = self._apply(template, turns, None)
            self._written[template] = text
        return self._written[template]


def _left_open(text: str, content: str) -> str:
    """A rendered conversation up to the end of its last message."""
    at = text.rfind(content.strip()) if content.strip() else -1
    return text if at < 0 else text[: at + len(content.strip())]
