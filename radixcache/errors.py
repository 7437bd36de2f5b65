"""Errors that the package raises on purpose; all derive from RadixCacheError."""

from __future__ import annotations


class RadixCacheError(Exception):
    """Base of every error raised on purpose by this package."""


class TokenError(RadixCacheError, ValueError):
    """A token id that cannot be packed: not an integer, or outside [0, 2**31)."""


class OutOfBlocksError(RadixCacheError):
    """A lease needs more blocks than are free or evictable now.

    Attributes:
        needed: blocks the call asked for.
        available: blocks it could have had (free + evictable).
    """

    def __init__(self, needed: int, available: int) -> None:
        super().__init__(f"{needed} KV blocks needed, {available} free or evictable")
        self.needed = needed
        self.available = available


class CacheInUseError(RadixCacheError):
    """The cache cannot be reset while leases are live."""


class LeaseReleasedError(RadixCacheError):
    """A lease was used after its release."""


class ModelError(RadixCacheError):
    """A model cannot be found, loaded or served."""


class LogError(RadixCacheError):
    """A prompt log cannot be read: names file, line and reason."""


class PromptTooLongError(RadixCacheError, ValueError):
    """A request cannot fit the model's context or the cache.

    Attributes:
        tokens: prompt plus new tokens asked for.
        limit: the most that fits.
    """

    def __init__(self, tokens: int, limit: int, what: str) -> None:
        super().__init__(f"{tokens} tokens asked for (prompt and new tokens), but {what} holds {limit}")
        self.tokens = tokens
        self.limit = limit


class SamplingError(RadixCacheError):
    """No token can be chosen by a row of logits: they are not finite, or every token is ruled out."""


class ChatBusyError(RadixCacheError):
    """A turn of a conversation was begun before the last one was over."""
