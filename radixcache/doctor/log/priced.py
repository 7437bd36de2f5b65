"""What prices need of a log besides its tokens: where messages end, and how long answers are."""

from __future__ import annotations

from array import array
from collections.abc import Callable

from radixcache.doctor.log.layout import message_ends, parts_of
from radixcache.logs.answer import answer_of
from radixcache.logs.record import LogRequest
from radixcache.prompts.encode import EncodeError
from radixcache.prompts.pieces import PieceEncoder

__all__ = ["PricedEncoder"]


class PricedEncoder:
    """Encodes what its encoder does, with the same ids, and looks at what prices depend on.

    Args:
        make: makes the encoder; called at the first text.
    """

    def __init__(self, make: Callable[[], PieceEncoder]) -> None:
        self._make = make
        self._encoder: PieceEncoder | None = None
        self._latest: tuple[LogRequest, array[int]] | None = None

    def encode(self, request: LogRequest) -> array[int]:
        """Token ids of a prompt; errors as `PromptEncoder.encode`."""
        encoder = self._made()
        if request.messages is None:
            return encoder.encode(request)
        rendered = encoder.render(request)
        try:
            places = sorted(message_ends(parts_of(request, rendered, encoder)))
        except EncodeError:  # a template that takes no such messages without tools
            places = []
        ids, ends = encoder.encode_text(rendered.text, places)
        self._latest = request, array("i", dict.fromkeys(end for end in ends if end))
        return ids

    def encode_answer(self, text: str) -> array[int]:
        """Token ids of an answer as it follows a prompt."""
        return self._made().encode_answer(text)

    def ends(self, request: LogRequest) -> array[int] | None:
        """Where the messages of the request that was encoded last end, in tokens; None if that is not known.

        The first is the end of the tools and system messages that open the prompt, taken together.
        """
        if self._latest is None or self._latest[0] is not request:
            return None
        return self._latest[1] or None

    def answer_tokens(self, request: LogRequest) -> int | None:
        """Tokens of an answer, counted from its text or tool calls.

        None if its length is logged, or there is neither. A prompt of token ids is of a tokenizer that is not
        known; no answer to one is counted.
        """
        if request.blocks is not None or request.prompt_token_ids is not None:
            return None
        answer = answer_of(request)
        text = answer.text or answer.tool_calls
        if answer.token_ids is not None or answer.tokens or text is None:
            return None
        return len(self.encode_answer(text))

    def _made(self) -> PieceEncoder:
        if self._encoder is None:
            self._encoder = self._make()
        return self._encoder
