"""Splits gathered from the pool, kept while the following steps ask for the same ones.

A decode step reads nearly what the step before it read: the same whole splits, and the same
last splits with one token more. Gathering them anew would move all of it twice. What is kept is in the
model's own type, whatever the pool stores: a quantised split is dequantised once, not in every step.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from radixcache.engine.backends.split_plan import IntArray, SplitCall
from radixcache.kv.pool import PagedPool

# More than this is not kept; large batches gather their splits in every step.
_LIMIT_BYTES = 256 << 20


class GatheredCall:
    """Keys and values of one call's splits, gathered a layer at a time.

    Attributes:
        blocks: what was gathered.
        positions: `[splits]`, the place of the one row within each split; None for whole splits.
    """

    def __init__(self, pool: PagedPool, call: SplitCall, positions: IntArray | None) -> None:
        self._pool = pool
        self._index = torch.from_numpy(call.blocks.ravel())
        self._length = call.length
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}
        self._slots: Tensor | None = None
        self._places: Tensor | None = None
        self.blocks = frozenset(call.blocks.ravel().tolist())
        self.positions = positions

    def advance(self, call: SplitCall, positions: IntArray) -> None:
        """Each split has one token more, which the layers take over when they are asked for."""
        size = self._pool.layout.block_size
        heads = self._pool.layout.num_kv_heads
        lines = np.arange(len(positions))
        slots = call.blocks[lines, positions // size] * size + positions % size
        places = (lines[:, None] * heads + np.arange(heads)) * call.length + positions[:, None]
        self._slots = torch.from_numpy(slots)
        self._places = torch.from_numpy(places.ravel())
        self._index = torch.from_numpy(call.blocks.ravel())
        self.blocks = frozenset(call.blocks.ravel().tolist())
        self.positions = positions

    def get(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values `[splits, kv_heads, length, head_dim]`."""
        kept = self._layers.get(layer)
        if kept is None:
            # Head by head, so that each head's product reads memory in one stretch.
            key, value = (
                blocks.view(-1, self._length, *blocks.shape[2:]).transpose(1, 2).contiguous()
                for blocks in self._pool.read_blocks(layer, self._index)
            )
            kept = self._layers[layer] = (key, value)
        elif self._slots is not None and self._places is not None:
            for target, fresh in zip(kept, self._pool.read_slots(layer, self._slots), strict=True):
                target.view(-1, fresh.shape[-1]).index_copy_(0, self._places, fresh.view(-1, fresh.shape[-1]))
        return kept


class KeptSplits:
    """The gathered calls of the last step, by what they hold."""

    def __init__(self, pool: PagedPool) -> None:
        self._pool = pool
        self._last: dict[tuple[object, ...], GatheredCall] = {}
        self._now: dict[tuple[object, ...], GatheredCall] = {}
        self._bytes = 0

    def begin(self) -> None:
        """A new step: what the last one did not use is let go."""
        self._last, self._now, self._bytes = self._now, {}, 0

    def forget(self, blocks: Iterable[int]) -> None:
        """These blocks get new contents."""
        renewed = set(blocks)
        self._now = {key: call for key, call in self._now.items() if renewed.isdisjoint(call.blocks)}

    def gathered(self, call: SplitCall) -> GatheredCall:
        """The call's splits: those of the last step if they still are the same, else gathered anew."""
        positions = call.last
        key: tuple[object, ...] = ("whole", call.blocks.tobytes())
        if positions is not None:
            # Only the last splits of decodes go on from step to step; a chunk of prefill and a
            # split that a window is leaving behind do not.
            if call.rows.shape[1] > 1 or int(positions.max()) >= call.length:
                return GatheredCall(self._pool, call, None)
            key = ("tail", call.length, call.blocks[:, 0].tobytes())
        known = self._last.get(key)
        if known is not None and positions is not None:
            if known.positions is not None and np.array_equal(known.positions + 1, positions):
                known.advance(call, positions)
            else:
                known = None
        found = known or GatheredCall(self._pool, call, positions)
        self._bytes += call.blocks.size * self._pool.layout.readable_bytes_per_block
        if self._bytes <= _LIMIT_BYTES:
            self._now[key] = found
        return found
