"""What a caller may see of an engine's cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from radixcache.cache.events import CacheSnapshot
from radixcache.cache.namespaces import Namespace, check_namespace
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.cache.stats import CacheStats
from radixcache.engine.thread import EngineThread
from radixcache.errors import EngineClosedError, EngineDeadError
from radixcache.tokens import pack

T = TypeVar("T")


class CacheView:
    """A cache that another thread works on, to look at.

    Each call is answered between two steps, and of an engine that has been closed at once.
    """

    def __init__(self, cache: PrefixCache, thread: EngineThread) -> None:
        self._cache = cache
        self._thread = thread

    @property
    def num_blocks(self) -> int:
        """Blocks of the pool."""
        return self._cache.num_blocks

    @property
    def block_size(self) -> int:
        """Tokens a block holds."""
        return self._cache.block_size

    @property
    def capacity_tokens(self) -> int:
        """Tokens that the pool holds."""
        return self.num_blocks * self.block_size

    def stats(self) -> CacheStats:
        """Counters and gauges.

        Raises:
            EngineForkedError: called in a forked child process.
        """
        return self._ask(self._cache.stats)

    def match(self, tokens: Sequence[int] | Any, namespace: Namespace = "") -> int:
        """How many tokens of a prompt a request would reuse now; changes nothing.

        Raises:
            TokenError: a bad token id.
            ValueError: `namespace` is of the wrong type.
            EngineForkedError: called in a forked child process.
        """
        packed = pack(tokens)
        check_namespace(namespace)
        return self._ask(lambda: self._cache.match(packed, namespace))

    def snapshot(self) -> CacheSnapshot:
        """Every published whole block as events, for a listener that missed some; costs O(cached tokens).

        Raises:
            ValueError: the engine has no `on_event`, so that events are not numbered.
            EngineForkedError: called in a forked child process.
        """
        return self._ask(self._cache.snapshot)

    def _ask(self, question: Callable[[], T]) -> T:
        with suppress(EngineClosedError, EngineDeadError):
            return self._thread.ask(question)
        return question()
