"""From a logged request to the token ids that the model is given."""

from __future__ import annotations

import re
from array import array
from typing import Any, NamedTuple

from radixcache.errors import ModelError, RadixCacheError
from radixcache.logs import LogRequest
from radixcache.prompts import Message, choose_template, encode_text, normalise, place_tools

__all__ = ["EncodeError", "PromptEncoder", "Rendered"]

_PROBE = "qzxj"


class EncodeError(RadixCacheError):
    """One request cannot be turned into tokens for this model."""


class Rendered(NamedTuple):
    """A conversation as text.

    Attributes:
        text: what is tokenised.
        messages: what the chat template was given: text content, one message more than was logged where a
            system message was made to hold tools.
    """

    text: str
    messages: list[Message]


class PromptEncoder:
    """Turns requests into token ids with a model's tokenizer and chat template.

    Messages go through the chat template, with the generation prompt added. A template that knows no
    `tools` gets the definitions as lines of JSON at the end of the system message; one that knows no
    `tool_calls` gets the calls as lines of JSON in the assistant's content. Text prompts are tokenised as a
    completions server does, with the special tokens that the tokenizer adds. Token ids pass unchanged.

    Args:
        tokenizer: a transformers tokenizer, or None for a model without one.
        model_name: named in errors.
    """

    def __init__(self, tokenizer: Any, model_name: str) -> None:
        self._tokenizer = tokenizer
        self._model_name = model_name
        self._tool_roles: dict[str, str] = {}

    def encode(self, request: LogRequest) -> array[int]:
        """Token ids of a request's prompt, as an array of int32.

        Raises:
            EncodeError: if the chat template refuses the messages, or no token comes out.
            ModelError: if the model has no tokenizer, or no chat template, and the request needs one.
        """
        if request.prompt_token_ids is not None:
            return array("i", request.prompt_token_ids)
        if self._tokenizer is None:
            raise ModelError(
                f"{self._model_name} has no tokenizer: only logs of prompt_token_ids can be used"
            )
        if request.messages is not None:
            text = self.render(request.messages, request.tools).text
            ids = self._tokenizer.encode(text, add_special_tokens=False, verbose=False)
        else:
            try:
                ids = encode_text(self._tokenizer, request.prompt or "")
            except ValueError as error:
                raise EncodeError(str(error)) from None
        if not ids:
            raise EncodeError("the prompt has no tokens")
        return array("i", ids)

    def encode_answer(self, text: str) -> array[int]:
        """Token ids of an answer as it follows a prompt, without special tokens.

        Raises:
            ModelError: if the model has no tokenizer.
        """
        if self._tokenizer is None:
            raise ModelError(f"{self._model_name} has no tokenizer: logged answers cannot be used")
        return array("i", self._tokenizer.encode(text, add_special_tokens=False, verbose=False))

    def render(self, messages: list[Message], tools: list[dict[str, Any]] | None) -> Rendered:
        """The text of a conversation, special tokens as text; errors as `encode`."""
        template = self._template(bool(tools))
        structured = re.search(r"\btool_calls\b", template) is not None
        role = "tool" if structured else self._tool_role(template)
        conversation = normalise(messages, structured_calls=structured, tool_role=role)
        conversation, tools = place_tools(conversation, tools, template)
        try:
            return Rendered(self._apply(conversation, tools, template), conversation)
        except Exception as error:  # a template is a program of the model's author: it may raise anything
            raise EncodeError(
                f"the chat template of {self._model_name} refused the messages: {error}"
            ) from None

    def _template(self, with_tools: bool) -> str:
        template = choose_template(self._tokenizer, with_tools=with_tools)
        if template is None:
            raise ModelError(
                f"{self._model_name} has no chat template: logs of messages cannot be used with it"
            )
        return template

    def _tool_role(self, template: str) -> str:
        """`tool` if the template prints messages of that role, else `user`: a result must not vanish."""
        if template not in self._tool_roles:
            turns = [("user", "a"), ("assistant", "b"), ("tool", _PROBE)]
            conversation = [{"role": role, "content": content} for role, content in turns]
            try:
                shown = _PROBE in self._apply(conversation, None, template)
            except Exception:  # as above
                shown = False
            self._tool_roles[template] = "tool" if shown else "user"
        return self._tool_roles[template]

    def _apply(self, messages: list[Message], tools: list[dict[str, Any]] | None, template: str) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                messages, tools=tools, chat_template=template, tokenize=False, add_generation_prompt=True
            )
        )
