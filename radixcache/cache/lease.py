"""A request's hold on the cache: its blocks, what of them is computed, and copies still to be done."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple

from radixcache.cache.blocks import BLOCK_BYTES, Blocks, block_ids, first_block, pack_blocks
from radixcache.cache.loads import BlockLoad, LowerHit
from radixcache.cache.misses import MissReason
from radixcache.cache.namespaces import Namespace
from radixcache.cache.node import Node
from radixcache.cache.store import BlockStore
from radixcache.errors import LeaseReleasedError
from radixcache.ranges import check_int
from radixcache.tokens import TOKEN_BYTES, TOKEN_LIMIT, pack


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
        num_cached_tokens: tokens reused when it was acquired, copied and loaded ones included; it falls if
            a load fails.
        num_computed_tokens: tokens whose KV is there: at first the cached ones without those to be loaded,
            then what `commit` and `finish_loads` were told.
        copies: copies to be done before the forward pass that writes or reads their targets; their
            sources stay as they are until `finish_copies`.
        loads: blocks to be filled from lower tiers, in order: the first begins at `num_computed_tokens`.
        lower: what lower tiers held when it was acquired, whether it is loaded or not; None for nothing.
        counted: whether it counts in the cache's hit rate.
        misses: prompt tokens that were not reused, by reason.
        diverged_at: the token index at which the prompt left everything seen before, or None.
        buffer: the sequence, packed, as it grows; not to be changed.
        packed_table: the block table as a packed row of int32 ids; not to be changed.
        node: the tree node that it locks: published blocks end there.
    """

    __slots__ = (
        "_fresh",
        "_limit",
        "_listed",
        "_publish_at",
        "_published",
        "_released",
        "_store",
        "buffer",
        "copies",
        "counted",
        "diverged_at",
        "loads",
        "lower",
        "misses",
        "namespace",
        "node",
        "num_cached_tokens",
        "num_computed_tokens",
        "num_tokens",
        "packed_table",
        "prompt_tokens",
    )

    def __init__(
        self,
        store: BlockStore,
        namespace: Namespace,
        node: Node,
        tokens: bytes | bytearray,
        table: bytearray,
        fresh: bytes,
        published: int,
        computed: int,
    ) -> None:
        self.namespace = namespace
        self.num_tokens = self.prompt_tokens = len(tokens) // TOKEN_BYTES
        self.num_cached_tokens = self.num_computed_tokens = computed
        self.packed_table = table
        self.copies: list[BlockCopy] = []
        self.loads: tuple[BlockLoad, ...] = ()
        self.lower: LowerHit | None = None
        self.counted = False
        self.misses: dict[str, int] = {}
        self.diverged_at: int | None = None
        self._store = store
        self.node = node
        self.buffer = tokens
        self._listed: list[int] | None = None  # `packed_table` as a list, once it was asked for
        self._fresh: Blocks = fresh
        self._published = published  # blocks
        self._released = False
        # The two hot calls, `extend` and `commit` of one token, need one comparison each to see
        # that nothing is to be done: below `_limit` tokens there is room in a block of our own,
        # below `_publish_at` tokens no block is full and no copy is pending.
        self._limit = 0
        self._publish_at = 0

    @property
    def block_table(self) -> list[int]:
        """Block ids in order; `commit` may swap some for published ones, so read it again."""
        if self._listed is None:
            self._listed = block_ids(self.packed_table)
        return self._listed

    @property
    def fresh_blocks(self) -> list[int]:
        """Blocks allocated since the last `finish_copies`."""
        return block_ids(self._fresh) if self._fresh else []

    @property
    def tokens(self) -> bytes:
        """The sequence, packed."""
        return bytes(self.buffer)

    @property
    def released(self) -> bool:
        """Whether the lease is at its end."""
        return self._released

    @property
    def loading(self) -> bool:
        """Whether loads are pending, so that nothing can be computed yet."""
        return bool(self.loads)

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
        store, table = self._store, self.packed_table
        size = store.block_size
        total = self.num_tokens + len(packed) // TOKEN_BYTES
        filled = self.num_tokens % size
        copy = False
        if packed and filled and store.allocator.extra:
            last = first_block(table[-BLOCK_BYTES:])
            copy = last in store.allocator.extra
        need = -(-total // size) - len(table) // BLOCK_BYTES + copy
        if need > 0:
            fresh = store.allocate(need)
            self._fresh += fresh
            self._publish_at = 0
            if copy:
                # our reference to the shared block is kept for the copy, and dropped with it
                self.copies.append(BlockCopy(last, first_block(fresh), filled))
                del table[-BLOCK_BYTES:]
                self._listed = None
            table += fresh
            if self._listed is not None:
                self._listed += block_ids(fresh)
        if not isinstance(self.buffer, bytearray):
            self.buffer = bytearray(self.buffer)
        self.buffer += packed
        self.num_tokens = total
        self._limit = len(table) // BLOCK_BYTES * size
        store.flush_events()

    def truncate(self, num_tokens: int) -> None:
        """Take back the tokens after the first `num_tokens`, none of which are computed, and their blocks.

        For drafted tokens that were rejected.  Published blocks and pending copies are never affected, as
        both belong to computed tokens.  No step that writes the dropped blocks may be in flight.

        Raises:
            ValueError: not an integer, fewer than are computed or being loaded, or more than there are.
            LeaseReleasedError: the lease was released.
        """
        self._check_live()
        num_tokens = check_int("num_tokens", num_tokens)
        least = self.loads[-1].start + self.loads[-1].num_tokens if self.loads else self.num_computed_tokens
        if not least <= num_tokens <= self.num_tokens:
            raise ValueError(
                f"truncate({num_tokens}): {least} tokens are computed or being loaded "
                f"and the sequence has {self.num_tokens}"
            )
        if num_tokens == self.num_tokens:
            return
        if isinstance(self.buffer, bytearray):
            del self.buffer[num_tokens * TOKEN_BYTES :]
        else:
            self.buffer = self.buffer[: num_tokens * TOKEN_BYTES]
        self.num_tokens = num_tokens
        size, table = self._store.block_size, self.packed_table
        kept = -(-num_tokens // size) * BLOCK_BYTES
        if kept == len(table):
            return
        dropped = bytes(table[kept:])
        del table[kept:]
        self._listed = None
        if self._fresh:
            gone = set(block_ids(dropped))
            self._fresh = pack_blocks(block for block in self.fresh_blocks if block not in gone)
        self._limit = min(self._limit, len(table) // BLOCK_BYTES * size)
        self._store.tree.drop_private(dropped)

    def commit(self, num_tokens: int) -> None:
        """Say that the first `num_tokens` tokens are computed, and so that copies are done.

        Every full block among them is published now.  Where the same block was published
        meanwhile by another request, `block_table` names that one from here on.

        Raises:
            ValueError: not an integer, fewer than before, more than the sequence has, or past the first token
                that is being loaded.
            LeaseReleasedError: the lease was released.
        """
        if (
            type(num_tokens) is int
            and self.num_computed_tokens <= num_tokens < self._publish_at
            and num_tokens <= self.num_tokens
        ):
            self.num_computed_tokens = num_tokens
            return
        self._commit(num_tokens)

    def _commit(self, num_tokens: int) -> None:
        self._check_live()
        if type(num_tokens) is not int:
            num_tokens = check_int("num_tokens", num_tokens)
        if not self.num_computed_tokens <= num_tokens <= self.num_tokens:
            raise ValueError(
                f"commit({num_tokens}): {self.num_computed_tokens} tokens are computed already "
                f"and the sequence has {self.num_tokens}"
            )
        if self.loads and num_tokens > self.loads[0].start:
            raise ValueError(f"commit({num_tokens}): tokens from {self.loads[0].start} on are being loaded")
        self.finish_copies()
        store = self._store
        self.num_computed_tokens = num_tokens
        if not store.enabled:
            self._publish_at = sys.maxsize
            return
        full = num_tokens // store.block_size
        if full > self._published:
            tree = store.tree
            duplicates = tree.num_duplicates
            self.node = tree.publish(self.node, self.buffer, self.packed_table, self._published, full)
            if tree.num_duplicates != duplicates:
                self._listed = None
            self._published = full
        self._publish_at = 0 if self.loads else (full + 1) * store.block_size
        store.flush_events()

    def finish_copies(self) -> None:
        """Say that the copies were issued: their sources are let go."""
        if self.copies:
            for copy in self.copies:
                self._store.tree.release_ref(copy.source)
            self.copies = []
        self._fresh = b""

    def finish_loads(self, num_tokens: int | None = None) -> None:
        """Say that blocks were loaded: all, or those that end within the first `num_tokens` tokens.

        Their tokens count as computed and full blocks are published, as by `commit`.

        Raises:
            ValueError: `num_tokens` is not an integer, or below 0.
            LeaseReleasedError: the lease was released.
        """
        self._check_live()
        done = self._loads_within(num_tokens)
        if done:
            last = self.loads[done - 1]
            self.loads = self.loads[done:]
            self._commit(last.start + last.num_tokens)

    def fail_loads(
        self, num_tokens: int = 0, *, reason: str = MissReason.LOAD_FAILED, still_writing: bool = False
    ) -> None:
        """Give up pending loads except those that end within the first `num_tokens` tokens: a shorter hit.

        Args:
            num_tokens: tokens whose loads are done or may still succeed.
            reason: why the others' tokens were missed, for the statistics.
            still_writing: the loader may still write the blocks.  The lease gets others, and these drain
                until `PrefixCache.drained`.

        Raises:
            ValueError: `num_tokens` is not an integer, or below 0.
            OutOfBlocksError: no blocks in place of those still written; nothing has changed.  `release`
                never fails.
            LeaseReleasedError: the lease was released.
        """
        self._check_live()
        kept = self._loads_within(check_int("num_tokens", num_tokens))
        failed = self.loads[kept:]
        if not failed:
            return
        store, table = self._store, self.packed_table
        targets = pack_blocks(load.target for load in failed)
        if still_writing:
            fresh = store.allocate(len(failed))
            first = failed[0].start // store.block_size * BLOCK_BYTES
            table[first : first + len(fresh)] = fresh
            self._listed = None
            gone = set(block_ids(targets))
            self._fresh = pack_blocks(block for block in self.fresh_blocks if block not in gone) + fresh
            store.draining.add(targets)
        else:  # what was loaded in part must be cleared again
            known = set(self.fresh_blocks)
            self._fresh += pack_blocks(load.target for load in failed if load.target not in known)
        self._miss(failed, str(reason))
        self.loads = self.loads[:kept]
        store.flush_events()

    def _loads_within(self, num_tokens: int | None) -> int:
        """How many loads end within the first `num_tokens` tokens."""
        if num_tokens is None:
            return len(self.loads)
        num_tokens = check_int("num_tokens", num_tokens, least=0)
        return sum(load.start + load.num_tokens <= num_tokens for load in self.loads)

    def _miss(self, failed: tuple[BlockLoad, ...], reason: str) -> None:
        """Count tokens as missed that were counted as cached."""
        lost = sum(load.num_tokens for load in failed)
        self.num_cached_tokens -= lost
        self.misses = {reason: lost + self.misses.pop(reason, 0), **self.misses}
        if self.counted:
            self._store.counters.fail(failed, reason)

    def fork(self) -> Lease:
        """Another lease on the same sequence, sharing its blocks.

        With every token computed all blocks are shared, and a lease that extends a shared tail first
        copies it; a tail whose own copy is pending is not shared, the fork copies from the same source.
        If some are not, only whole computed blocks are, and the fork gets new blocks for the rest, which
        it computes itself.

        Raises:
            OutOfBlocksError: no room for its new blocks; nothing has changed.
            LeaseReleasedError: the lease was released.
        """
        self._check_live()
        store = self._store
        blocks = len(self.packed_table) // BLOCK_BYTES
        computed, shared = self.num_tokens, blocks
        if self.num_computed_tokens < computed:
            shared = self.num_computed_tokens // store.block_size
            computed = shared * store.block_size
        unwritten = self.copies if shared == blocks else []  # a copy's target is always the tail
        shared -= len(unwritten)
        fresh = store.allocate(blocks - shared)
        table = self.packed_table[: shared * BLOCK_BYTES]
        for block in block_ids(table[self._published * BLOCK_BYTES :]):
            store.allocator.share(block)
        store.tree.lock(self.node)
        table += fresh
        twin = Lease(store, self.namespace, self.node, self.tokens, table, fresh, self._published, computed)
        twin.prompt_tokens = self.prompt_tokens
        twin.num_cached_tokens = self.num_cached_tokens
        twin.misses = dict(self.misses)
        twin.diverged_at = self.diverged_at
        for copy in unwritten:
            store.allocator.share(copy.source)
            twin.copies.append(BlockCopy(copy.source, first_block(fresh), copy.num_tokens))
        self._limit = 0  # the tail may be shared now
        store.add(twin)
        store.hand_over(twin)
        return twin

    def release(self, *, publish: bool = True) -> None:
        """Give the blocks back; what is published stays cached until it is evicted.

        With `publish` a computed part of the last block is published, too.  Blocks of pending loads drain,
        as the loader may still write them: the loader calls `PrefixCache.drained` with the targets of
        `loads` once it has ended, or `fail_loads` before, if none was started.  Releasing again does nothing.
        """
        if self._released:
            return
        if self.loads:
            self._miss(self.loads, str(MissReason.LOAD_LATE))
        self._released = True
        self._limit = self._publish_at = 0
        store, tree = self._store, self._store.tree
        copied = not self.copies  # else what is in the copies' targets is not there yet
        self.finish_copies()
        store.releasing(self)
        known = self._published * store.block_size
        private = bytes(self.packed_table[self._published * BLOCK_BYTES :])
        if self.loads:  # the first private blocks: nothing after what is published is computed
            cut = len(self.loads) * BLOCK_BYTES
            store.draining.add(private[:cut])
            private = private[cut:]
        if publish and copied and store.enabled and self.num_computed_tokens > known:
            tail = bytes(self.buffer[known * TOKEN_BYTES : self.num_computed_tokens * TOKEN_BYTES])
            known = self.num_computed_tokens
            if tree.publish_tail(self.node, tail, private[:BLOCK_BYTES]):
                private = private[BLOCK_BYTES:]
        else:
            tree.touch(self.node)
        if private:
            tree.drop_private(private)
        tree.unlock(self.node)
        store.released(self, known)
        self.packed_table = bytearray()
        self._listed = None

    def private_blocks(self) -> dict[int, int]:
        """The blocks past the published ones, and how many tokens of the sequence each is for."""
        size, start = self._store.block_size, self._published
        return {
            block: min(size, self.num_tokens - index * size)
            for index, block in enumerate(block_ids(self.packed_table[start * BLOCK_BYTES :]), start)
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
        state = "released" if self._released else f"{len(self.packed_table) // BLOCK_BYTES} blocks"
        return (
            f"<Lease {self.num_tokens} tokens, {self.num_cached_tokens} cached, "
            f"{self.num_computed_tokens} computed, {state}>"
        )
