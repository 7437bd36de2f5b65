"""Sampled tokens on their way to the caller: text is made of them and handed out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from radixcache.engine.request import Request, Sequence
from radixcache.engine.result import Delta, TokenLogprob


class _Pending(NamedTuple):
    """Tokens of a sequence that nobody was given yet; `text` is None while it has to be made."""

    sequence: Sequence
    token: int | None
    logprob: TokenLogprob | None
    text: str | None
    finish_reason: str | None


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
        text: str | None = None,
        *,
        finish_reason: str | None = None,
    ) -> None:
        """A token was sampled; `text` is what it adds, None if that is not known yet."""
        self._pending.append(_Pending(sequence, token, logprob, text, finish_reason))

    def end(self, sequence: Sequence, finish_reason: str) -> None:
        """A sequence ends without another token."""
        self._pending.append(_Pending(sequence, None, None, "", finish_reason))

    def drop(self, request: Request) -> None:
        """Nothing more is due to a request."""
        self._pending = deque(item for item in self._pending if item.sequence.request is not request)

    def clear(self) -> None:
        """Nothing is due to anybody."""
        self._pending.clear()

    def flush(self) -> None:
        """Hand out all that is due. A request whose text cannot be made fails, and no other."""
        while self._pending:
            item = self._pending.popleft()
            try:
                item.sequence.request.handle.push(_delta(item))
            except Exception as error:
                self._fail(item.sequence.request, error)


def _delta(item: _Pending) -> Delta:
    sequence, token, logprob, text, finish_reason = item
    if sequence.text is None:
        text = ""
    else:
        if text is None:
            assert token is not None
            text = sequence.text.push(token)
        if finish_reason is not None:
            text += sequence.text.finish()
    wants_logprobs = sequence.request.params.logprobs is not None
    return Delta(
        sequence.index,
        text,
        () if token is None else (token,),
        (() if logprob is None else (logprob,)) if wants_logprobs else None,
        finish_reason,
    )
