"""Splits gathered from the pool, kept while the following steps ask for the same ones.

A decode step reads nearly what the step before it read: the same whole splits, and the same
last splits with one token more. Gathering them again would move all of it twice. What is kept is in the
model's own type, whatever the pool stores: a quantised split is dequantised once, not in every step.

What was gathered depends on every block it was gathered from and on what those blocks hold. So a kept call
serves another only if all blocks that hold tokens are the same ones, and none of them was renewed meanwhile.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

import numpy as np
import torch
from torch import Tensor

from radixcache.engine.backends.torch.split_plan import IntArray, SplitCall
from radixcache.kv.pool import PagedPool

# More than this is not kept; large batches gather their splits in every step.
_LIMIT_BYTES = 256 << 20


class GatheredCall:
    """Keys and values of one call's splits, gathered a layer at a time.

    Attributes:
        positions: `[splits]`, the place of the one row within each split; None for whole splits.
    """

    def __init__(self, pool: PagedPool, group: int, call: SplitCall, positions: IntArray | None) -> None:
        self._pool = pool
        self._num_kv_heads = pool.layout.groups[group].num_kv_heads
        self._length = call.length
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}
        self._advanced: dict[int, tuple[Tensor, Tensor]] | None = None
        self._slots = self._places = torch.empty(0)
        self._note(call, positions)

    def _note(self, call: SplitCall, positions: IntArray | None) -> None:
        self._blocks = call.blocks
        self._index = torch.from_numpy(call.blocks.ravel())
        self.positions = positions

    def holds_any(self, blocks: AbstractSet[int]) -> bool:
        """Whether any of the blocks is among those it was gathered from."""
        return not blocks.isdisjoint(self._blocks.ravel().tolist())

    def precedes(self, call: SplitCall) -> bool:
        """Whether `call` reads the very same blocks, each split with exactly one token more than here."""
        if self.positions is None or call.last is None or self._blocks.shape != call.blocks.shape:
            return False
        if not np.array_equal(self.positions + 1, call.last):
            return False
        # Blocks past the last known token hold nothing yet and may be others by now.
        filled = np.arange(self._blocks.shape[1]) <= (self.positions // self._pool.layout.block_size)[:, None]
        return not ((self._blocks != call.blocks) & filled).any()

    def advance(self, call: SplitCall, positions: IntArray) -> None:
        """Each split has one token more, which the layers take over when they are asked for."""
        size = self._pool.layout.block_size
        heads = self._num_kv_heads
        splits = np.arange(len(positions))
        slots = call.blocks[splits, positions // size] * size + positions % size
        places = (splits[:, None] * heads + np.arange(heads)) * call.length + positions[:, None]
        self._slots = torch.from_numpy(slots)
        self._places = torch.from_numpy(places.ravel())
        # A layer that was not asked for in the last step misses that step's token: it is gathered again.
        self._layers = self._layers if self._advanced is None else self._advanced
        self._advanced = {}
        self._note(call, positions)

    def get(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values `[splits, kv_heads, length, head_dim]`."""
        if self._advanced is not None and layer in self._advanced:
            return self._advanced[layer]
        kept = self._layers.get(layer)
        if kept is None:
            # Head by head, so that each head's product reads memory in one stretch.
            key, value = (
                blocks.view(-1, self._length, *blocks.shape[2:]).transpose(1, 2).contiguous()
                for blocks in self._pool.read_blocks(layer, self._index)
            )
            kept = (key, value)
        elif self._advanced is not None:
            for target, fresh in zip(kept, self._pool.read_slots(layer, self._slots), strict=True):
                target.view(-1, fresh.shape[-1]).index_copy_(0, self._places, fresh.view(-1, fresh.shape[-1]))
        (self._layers if self._advanced is None else self._advanced)[layer] = kept
        return kept


class KeptSplits:
    """The gathered calls of the last step, for layers of one kind, all of one group.

    Whole splits are found by their blocks. Of last splits there is one call a step at most, since all
    sequences with a single new token share it; `GatheredCall.precedes` says whether it goes on.
    """

    def __init__(self, pool: PagedPool, group: int) -> None:
        self.pool, self.group = pool, group
        layers = pool.layout.groups[group]
        self._bytes_per_block = layers.readable_bytes_per_token * pool.layout.block_size
        self._last: dict[bytes | None, GatheredCall] = {}
        self._now: dict[bytes | None, GatheredCall] = {}
        self._bytes = 0

    def begin(self) -> None:
        """A new step: what the last one did not use is dropped."""
        self._last, self._now, self._bytes = self._now, {}, 0

    def forget(self, blocks: AbstractSet[int]) -> None:
        """Drop what was gathered from these blocks, whose contents have changed."""
        for calls in (self._last, self._now):
            for key in [key for key, call in calls.items() if call.holds_any(blocks)]:
                del calls[key]

    def gathered(self, call: SplitCall) -> GatheredCall:
        """The call's splits: those of the last step if they still are the same, else gathered again."""
        positions = call.last
        key: bytes | None = None
        if positions is None:
            key = call.blocks.tobytes()
            known = self._last.get(key)
        elif call.rows.shape[1] > 1 or int(positions.max()) >= call.length:
            # Only the last splits of decodes go on from step to step; a chunk of prefill and a
            # split that a window is leaving behind do not.
            return GatheredCall(self.pool, self.group, call, None)
        else:
            known = self._last.get(key)
            if known is not None and known.precedes(call):
                known.advance(call, positions)
            else:
                known = None
        found = known or GatheredCall(self.pool, self.group, call, positions)
        self._bytes += call.blocks.size * self._bytes_per_block
        if self._bytes <= _LIMIT_BYTES:
            self._now[key] = found
        return found
