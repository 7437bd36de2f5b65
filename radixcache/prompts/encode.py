"""From messages, texts and logged requests to the token ids that the model is given."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from radixcache.errors import ModelError
from radixcache.logs.record import LogRequest
from radixcache.prompts.media import MARK
from radixcache.prompts.messages import Message
from radixcache.prompts.parts import Part, message_ends, parts_of
from radixcache.prompts.pieces import PieceEncoder
from radixcache.prompts.template import ChatRenderer, EncodeError, Rendered
from radixcache.prompts.text import check_text, encode_text

__all__ = ["EncodeError", "Prompt", "PromptEncoder"]


class Prompt(NamedTuple):
    """A conversation as the model is given it.

    Attributes:
        ids: token ids, int32.
        message_ends: how many of the ids come before the end of each message, int32, ascending; the first is
            the end of the tools and system messages that open the prompt, taken together. None if that is not
            known.
    """

    ids: array[int]
    message_ends: array[int] | None


class PromptEncoder:
    """Turns conversations, texts and answers into token ids with a model's tokenizer and chat template.

    Messages go through `ChatRenderer`: special tokens in them are text. Text prompts are tokenised as a
    completions server does, with the special tokens that the tokenizer adds, and special tokens in them are
    special. Token ids pass unchanged. What several prompts share is tokenised once where the tokenizer allows
    it; some 200 MB of that is kept. Not for several threads at a time.

    Args:
        tokenizer: a transformers tokenizer, or None for a model without one.
        model_name: named in errors.
        media: images, audio and files become runs of ids that no vocabulary has, for a cache without a model;
            else they are refused.
    """

    def __init__(self, tokenizer: Any, model_name: str, *, media: bool = False) -> None:
        self._tokenizer = tokenizer
        self._model_name = model_name
        self._chat = ChatRenderer(tokenizer, model_name, media=media)
        self._pieces = PieceEncoder(tokenizer, self._chat.plain)

    def encode(self, request: LogRequest) -> array[int]:
        """Token ids of a request's prompt, int32.

        Raises:
            EncodeError: the messages are malformed, the chat template refuses them, or no token comes out.
            ModelError: the model has no tokenizer, or no chat template, and the request needs one, or the
                template exceeds its limits.
        """
        if request.prompt_token_ids is not None:
            return array("i", request.prompt_token_ids)
        self._need_tokenizer("only logs of prompt_token_ids can be used")
        if request.messages is not None:
            rendered = self._chat.render(request.messages, request.tools, request.template_kwargs)
            return self._encoded(rendered.text)
        try:
            text = check_text("prompt", request.prompt or "")
        except ValueError as error:
            raise EncodeError(str(error)) from None
        ids = self._pieces.encode_framed(text)
        return _some(array("i", encode_text(self._tokenizer, text)) if ids is None else ids)

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Message] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> Prompt:
        """A conversation as token ids, with the generation prompt, and where its messages end in them.

        Args:
            messages, tools, variables: as `ChatRenderer.render`.

        Raises:
            EncodeError, ModelError: as `encode`.
        """
        self._need_tokenizer("messages cannot be used")
        rendered = self._chat.render(messages, tools, variables)
        try:
            places = sorted(message_ends(self.parts_of(rendered, messages, tools)))
        except EncodeError:  # a template that takes no such messages without tools
            places = []
        try:
            ids, ends = self._pieces.encode_to(rendered.text, places)
        except ValueError as error:
            raise EncodeError(str(error)) from None
        return Prompt(_some(ids), array("i", dict.fromkeys(end for end in ends if end)) or None)

    def encode_answer(self, text: str) -> array[int]:
        """Token ids of an answer as it follows a prompt; special tokens in it are text.

        Raises:
            EncodeError: the text cannot be encoded.
            ModelError: the model has no tokenizer.
        """
        self._need_tokenizer("logged answers cannot be used")
        try:
            return self._pieces.encode(self._chat.plain.mask(text))
        except ValueError as error:
            raise EncodeError(f"the answer {error}") from None

    def rendered(
        self,
        messages: Sequence[Message],
        tools: Sequence[Message] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> Rendered:
        """The text of a conversation, masked; arguments and errors as `render`."""
        return self._chat.render(messages, tools, variables)

    def parts_of(
        self, rendered: Rendered, messages: Sequence[Message], tools: Sequence[Message] | None
    ) -> list[Part]:
        """The parts of a rendered conversation.

        Raises:
            EncodeError: the template refuses the conversation without its tools.
        """
        return parts_of(rendered, messages, self._chat.render(messages) if tools else None)

    def unmask(self, text: str) -> str:
        """A rendered text, or the beginning of one, as people wrote it; what is no text is named."""
        return MARK.sub(r"[\1]", self._chat.plain.unmask(text))

    def decode(self, packed: bytes) -> str:
        """The text of packed token ids, special tokens included; empty without a fast backend."""
        return self._pieces.decode(packed)

    def _encoded(self, rendered: str) -> array[int]:
        try:
            return _some(self._pieces.encode(rendered))
        except ValueError as error:
            raise EncodeError(str(error)) from None

    def _need_tokenizer(self, without: str) -> None:
        if self._tokenizer is None:
            raise ModelError(f"{self._model_name} has no tokenizer: {without}")


def _some(ids: array[int]) -> array[int]:
    if not ids:
        raise EncodeError("the prompt has no tokens")
    return ids
