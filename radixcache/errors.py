"""Errors that the package raises on purpose; all derive from RadixCacheError."""

from __future__ import annotations

from typing import Any


class RadixCacheError(Exception):
    """Base of every error raised on purpose by this package."""


class TokenError(RadixCacheError, ValueError):
    """A token id that cannot be packed: not an integer, or outside [0, 2**31)."""


class OutOfBlocksError(RadixCacheError):
    """A lease needs more blocks than are free or evictable now.

    Attributes:
        needed: blocks the call asked for.
        available: blocks it could have had (free + evictable).
        draining: blocks that become free when a transfer ends, without anybody else giving any up.
    """

    def __init__(self, needed: int, available: int, draining: int = 0) -> None:
        later = f", {draining} draining" if draining else ""
        super().__init__(f"{needed} KV blocks needed, {available} free or evictable{later}")
        self.needed = needed
        self.available = available
        self.draining = draining

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.needed, self.available, self.draining)


class CacheInUseError(RadixCacheError):
    """The cache cannot be reset while leases are live."""


class LeaseReleasedError(RadixCacheError):
    """A lease was used after its release."""


class MissingExtraError(RadixCacheError, ImportError):
    """An optional dependency is not installed; the message says which extra to install."""


class ModelError(RadixCacheError):
    """A model cannot be found, loaded or served."""


class InvarianceError(RadixCacheError):
    """Answers were to be independent of the batch and of the cache, and cannot be on this machine."""


class InvarianceWarning(UserWarning):
    """Answers may depend, by rounding, on the batch and on what is cached."""


class LogError(RadixCacheError):
    """A prompt log cannot be read: names file, line and reason."""


class TemporaryFileError(RadixCacheError):
    """A temporary file cannot be written or read: names the folder and the reason."""


class PromptTooLongError(RadixCacheError, ValueError):
    """A request cannot fit the model's context or the cache.

    Attributes:
        tokens: prompt plus new tokens asked for.
        limit: the most that fits.
        what: what has that limit.
    """

    def __init__(self, tokens: int, limit: int, what: str) -> None:
        super().__init__(f"{tokens} tokens asked for (prompt and new tokens), but {what} holds {limit}")
        self.tokens = tokens
        self.limit = limit
        self.what = what

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.tokens, self.limit, self.what)


class RequestFailedError(RadixCacheError, RuntimeError):
    """The engine could not finish one request; other requests go on. `__cause__` is what went wrong.

    Attributes:
        request_id: the request that failed.
        reason: type and message of the cause.
    """

    def __init__(self, request_id: str, reason: str) -> None:
        super().__init__(f"request {request_id} failed: {reason}")
        self.request_id = request_id
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.request_id, self.reason)


class EngineDeadError(RadixCacheError):
    """The engine's thread has ended by an error, `__cause__`; every request and later call gets this.

    Attributes:
        reason: type and message of the cause.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"the engine stopped: {reason}")
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason,)


class EngineOverloadedError(RadixCacheError):
    """A request was refused because as many wait as may; later ones may be taken.

    Attributes:
        waiting: requests that wait.
        max_waiting: how many may.
    """

    def __init__(self, waiting: int, max_waiting: int) -> None:
        super().__init__(f"the engine is overloaded: {waiting} requests wait, max_waiting is {max_waiting}")
        self.waiting = waiting
        self.max_waiting = max_waiting

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.waiting, self.max_waiting)


class EngineClosedError(RadixCacheError):
    """An engine was used after its `close`."""


class EngineForkedError(RadixCacheError):
    """An engine was used in a child process that was forked from the engine's process."""


def describe(error: BaseException) -> str:
    """Type and message of an error, as text for a message about it."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class SamplingError(RadixCacheError):
    """No token can be chosen by a row of logits: they are not finite, or every token is ruled out."""


class ChatBusyError(RadixCacheError):
    """A turn of a conversation was begun before the last one was over."""
