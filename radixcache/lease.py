"""A request's hold on the cache: its blocks, what of them is computed, and copies still to be done."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from radixcache.errors import LeaseReleasedError
from radixcache.namespaces import Namespace
from radixcache.tokens import TOKEN_BYTES, TOKEN_LIMIT, pack

if TYPE_CHECKING:
    from radixcache.cache import PrefixCache
    from radixcache.node import Node


class BlockCopy(NamedTuple):
    """Copy the first `num_tokens` tokens of block `source` to block `target`."""

    source: int
    target: int
    num_tokens: int


class Lease:
    """A sequence of tokens with a block for each `block_size` of them, made by `PrefixCache.acquire`.

    As a context manager it releases itself at the end, whatever happens.  The blocks of a lease:

        published, shared, never written        private, written by this lease
        |----------|----------|----------|      |----------|----------|-----.....|
        ^ the path down to the tree node        ^ a block is published by the `commit`
          that the lease locks                    that fills it; copy targets are here

    Attributes:
        namespace: the namespace it was acquired in.
        num_tokens: tokens of the sequence, prompt and extensions.
        prompt_tokens: tokens it was acquired with.
        num_cached_tokens: tokens reused when it was acquired, those of a copied block included.
        num_computed_tokens: tokens whose KV is there: at first the cached ones, then what `commit`
            was told.
        block_table: block ids in order; `commit` may swap some for published ones, so read it anew.
        copies: copies to be done before the forward pass that writes or reads their targets; their
            sources stay as they are until `finish_copies`.
        fresh_blocks: blocks allocated since the last `finish_copies`.
        misses: prompt tokens that were not reused, by reason.
        diverged_at: the token index at which the prompt left everything seen before, or None.
        buffer: the sequence, packed, as it grows; not to be changed.
        node: the tree node that it locks: published blocks end there.
    """

    __slots__ = (
        "_cache",
        "_limit",
        "_publish_at",
        "_published",
        "_released",
        "block_table",
        "buffer",
        "copies",
        "diverged_at",
        "fresh_blocks",
        "misses",
        "namespace",
        "node",
        "num_cached_tokens",
        "num_computed_tokens",
        "num_tokens",
        "prompt_tokens",
    )

    def __init__(
        self,
        cache: PrefixCache,
        namespace: Namespace,
        node: Node,
        tokens: bytes | bytearray,
        block_table: list[int],
        published: int,
        computed: int,
    ) -> None:
        self.namespace = namespace
        self.num_tokens = self.prompt_tokens = len(tokens) // TOKEN_BYTES
        self.num_cached_tokens = self.num_computed_tokens = computed
        self.block_table = block_table
        self.copies: list[BlockCopy] = []
        self.fresh_blocks: list[int] = []
        self.misses: dict[str, int] = {}
        self.diverged_at: int | None = None
        self._cache = cache
        self.node = node
        self.buffer = tokens
        self._published = published  # blocks
        self._released = False
        # The two hot calls, `extend` and `commit` of one token, need one comparison each to see
        # that nothing is to be done: below `_limit` tokens there is room in a block of our own,
        # below `_publish_at` tokens no block is full and no copy is pending.
        self._limit = 0
        self._publish_at = 0

    @property
    def tokens(self) -> bytes:
        """The sequence, packed."""
        return bytes(self.buffer)

    @property
    def released(self) -> bool:
        """Whether the lease is at its end."""
        return self._released

    def extend(self, tokens: Sequence[int] | Any) -> None:
        """Append tokens to the sequence and make room for them.

        If the last block is shared with a fork, it is copied first (see `copies`).

        Raises:
            TokenError: a bad token id.
            OutOfBlocksError: no room; nothing has changed.
            LeaseReleasedError: the lease was released.
        """
        if (
            self.num_tokens < self._limit
            and type(tokens) is list
            and len(tokens) == 1
            and type(token := tokens[0]) is int
            and 0 <= token < TOKEN_LIMIT
        ):
            self.buffer += token.to_bytes(4, "little")
            self.num_tokens += 1
            return
        self._extend(pack(tokens))

    def _extend(self, packed: bytes) -> None:
        self._check_live()
        cache, table = self._cache, self.block_table
        total = self.num_tokens + len(packed) // TOKEN_BYTES
        filled = self.num_tokens % cache.block_size
        copy = packed and filled and table[-1] in cache.allocator.extra
        need = -(-total // cache.block_size) - len(table) + (1 if copy else 0)
        if need > 0:
            fresh = cache.allocate(need)
            self.fresh_blocks += fresh
            self._publish_at = 0
            if copy:
                # our reference to the shared block is kept for the copy, and dropped with it
                self.copies.append(BlockCopy(table[-1], fresh[0], filled))
                table[-1] = fresh[0]
                del fresh[0]
            table += fresh
        if not isinstance(self.buffer, bytearray):
            self.buffer = bytearray(self.buffer)
        self.buffer += packed
        self.num_tokens = total
        self._limit = len(table) * cache.block_size
        cache.flush_events()

    def commit(self, num_tokens: int) -> None:
        """Say that the first `num_tokens` tokens are computed, and so that copies are done.

        Every full block among them is published now.  Where the same block was published
        meanwhile by another request, `block_table` names that one from here on.

        Raises:
            ValueError: fewer than before, or more than the sequence has.
            LeaseReleasedError: the lease was released.
        """
        if self.num_computed_tokens <= num_tokens < self._publish_at and num_tokens <= self.num_tokens:
            self.num_computed_tokens = num_tokens
            return
        self._commit(num_tokens)

    def _commit(self, num_tokens: int) -> None:
        self._check_live()
        if not self.num_computed_tokens <= num_tokens <= self.num_tokens:
            raise ValueError(
                f"commit({num_tokens}): {self.num_computed_tokens} tokens are computed already "
                f"and the sequence has {self.num_tokens}"
            )
        self.finish_copies()
        cache = self._cache
        self.num_computed_tokens = num_tokens
        if not cache.enabled:
            self._publish_at = sys.maxsize
            return
        full = num_tokens // cache.block_size
        if full > self._published:
            self.node = cache.tree.publish(self.node, self.buffer, self.block_table, self._published, full)
            self._published = full
        self._publish_at = (full + 1) * cache.block_size
        cache.flush_events()

    def finish_copies(self) -> None:
        """Say that the copies were issued: their sources are let go."""
        if self.copies:
            for copy in self.copies:
                self._cache.tree.let_go(copy.source)
            self.copies = []
        if self.fresh_blocks:
            self.fresh_blocks = []

    def fork(self) -> Lease:
        """Another lease on the same sequence, sharing its blocks.

        With every token computed all blocks are shared, and whoever extends a shared tail first
        copies it.  Otherwise only whole computed blocks are, and the fork has blocks of its own for
        the rest, which it computes itself.

        Raises:
            OutOfBlocksError: no room for the blocks it needs of its own; nothing has changed.
            LeaseReleasedError: the lease was released.
        """
        self._check_live()
        cache = self._cache
        computed, shared = self.num_tokens, len(self.block_table)
        if self.num_computed_tokens < computed:
            shared = self.num_computed_tokens // cache.block_size
            computed = shared * cache.block_size
        fresh = cache.allocate(len(self.block_table) - shared)
        for block in self.block_table[self._published : shared]:
            cache.allocator.share(block)
        cache.tree.lock(self.node)
        twin = Lease(
            cache,
            self.namespace,
            self.node,
            self.tokens,
            self.block_table[:shared] + fresh,
            self._published,
            computed,
        )
        twin.prompt_tokens = self.prompt_tokens
        twin.num_cached_tokens = self.num_cached_tokens
        twin.fresh_blocks = list(fresh)
        twin.misses = dict(self.misses)
        twin.diverged_at = self.diverged_at
        self._limit = 0  # the tail may be shared now
        cache.live.setdefault(self.namespace, set()).add(twin)
        cache.hand_over(twin)
        return twin

    def release(self, *, publish: bool = True) -> None:
        """Give the blocks back; what is published stays cached until it is evicted.

        With `publish` a computed part of the last block is published, too.  Releasing again does
        nothing.
        """
        if self._released:
            return
        self._released = True
        self._limit = self._publish_at = 0
        cache, tree, table = self._cache, self._cache.tree, self.block_table
        copied = not self.copies  # else what is in the copies' targets is not there yet
        self.finish_copies()
        start = self._published
        known = start * cache.block_size
        private = table[start:]
        taken = False
        if publish and copied and cache.enabled and self.num_computed_tokens > known:
            tail = bytes(self.buffer[known * TOKEN_BYTES : self.num_computed_tokens * TOKEN_BYTES])
            taken = tree.publish_tail(self.node, tail, table[start])
            known = self.num_computed_tokens
            if taken:
                del private[0]
        else:
            tree.touch(self.node)
        tree.drop_private(private)
        tree.unlock(self.node)
        cache.ended(self, known)
        self.block_table = []

    def private_blocks(self) -> dict[int, int]:
        """The blocks past the published ones, and how many tokens of the sequence each is for."""
        size, start = self._cache.block_size, self._published
        return {
            block: min(size, self.num_tokens - index * size)
            for index, block in enumerate(self.block_table[start:], start)
        }

    def _check_live(self) -> None:
        if self._released:
            raise LeaseReleasedError("the lease was released")

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        state = "released" if self._released else f"{len(self.block_table)} blocks"
        return (
            f"<Lease {self.num_tokens} tokens, {self.num_cached_tokens} cached, "
            f"{self.num_computed_tokens} computed, {state}>"
        )
