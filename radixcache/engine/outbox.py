"""Sampled tokens on their way to the caller: text is made of them and handed out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from radixcache.engine.request import Request, Sequence
from radixcache.engine.result import TokenLogprob

# Sequence, token, its logprob, text (None while it has to be made) and finish reason. Tuples, here and in
# handles, because one is made for every token.
_Pending = tuple[Sequence, int | None, TokenLogprob | None, str | None, str | None]


class Outbox:
    """Deltas that are due. On a GPU they are made while the next step is computed."""

    def __init__(self, fail: Callable[[Request, Exception], None]) -> None:
        """Nothing is due.

        Args:
            fail: called with a request whose text cannot be made, and the error.
        """
        self._fail = fail
        self._pending: deque[_Pending] = deque()

    def __len__(self) -> int:
        return len(self._pending)

    def put(
        self,
        sequence: Sequence,
        token: int,
        logprob: TokenLogprob | None,
        text: str | None,
        finish_reason: str | None,
    ) -> None:
        """A token was sampled; `text` is what it adds, None if that is not known yet."""
        self._pending.append((sequence, token, logprob, text, finish_reason))

    def end(self, sequence: Sequence, finish_reason: str) -> None:
        """A sequence ends without another token."""
        self._pending.append((sequence, None, None, "", finish_reason))

    def drop(self, request: Request) -> None:
        """Nothing more is due to a request."""
        self._pending = deque(item for item in self._pending if item[0].request is not request)

    def clear(self) -> None:
        """Nothing is due to anybody."""
        self._pending.clear()

    def flush(self) -> None:
        """Hand out all that is due. A request whose text cannot be made fails, and no other."""
        pending = self._pending
        while pending:
            sequence, token, logprob, text, finish_reason = pending.popleft()
            request = sequence.request
            try:
                stream = sequence.text
                if stream is None:
                    text = ""
                else:
                    if text is None:
                        assert token is not None
                        text = stream.push(token)
                    if finish_reason is not None:
                        text += stream.finish()
                logprobs = None if request.params.logprobs is None else () if logprob is None else (logprob,)
                token_ids = () if token is None else (token,)
                request.handle.push((sequence.index, text, token_ids, logprobs, finish_reason))
            except Exception as error:
                self._fail(request, error)
                pending = self._pending
