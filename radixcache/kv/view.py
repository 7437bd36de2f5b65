"""One layer of one sequence in a pool, for code outside the engine's step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from radixcache.kv.pool import PagedPool


class HasBlockTable(Protocol):
    """What a view needs of a lease."""

    @property
    def block_table(self) -> Sequence[int]:
        """Block ids in order; they may change when the lease commits."""


class LayerView:
    """Keys and values of one layer of a sequence, appended and read token by token.

    The view writes straight into the pool: only to blocks that belong to the sequence alone, and a backend
    that serves the same pool must hear of them by `Backend.renewed` before it reads them.

    Attributes:
        num_tokens: tokens that the view has; those a prefix cache already held count from the start.
    """

    def __init__(
        self, pool: PagedPool, table: HasBlockTable | Sequence[int], layer: int, num_tokens: int = 0
    ) -> None:
        """View a layer.

        Args:
            pool: where the keys and values are.
            table: block ids of the sequence in order, or a lease, whose current table is read at each call.
            layer: index of the layer.
            num_tokens: tokens that are computed already.

        Raises:
            ValueError: no such layer, or more tokens than the table has room for.
        """
        if not 0 <= layer < pool.layout.num_layers:
            raise ValueError(f"layer must be within 0..{pool.layout.num_layers - 1}, got {layer}")
        self._pool, self._source, self._layer = pool, table, layer
        self._group = pool.layout.group_of(layer)
        self._check_room(num_tokens)
        self.num_tokens = num_tokens

    def append(self, key: Tensor, value: Tensor) -> None:
        """Store the keys and values of the next tokens, both `[n, num_kv_heads, head_dim]`.

        Raises:
            ValueError: another shape, or more tokens than the table has room for; nothing is written then.
        """
        heads, width = self._group.num_kv_heads, self._group.head_dim
        for name, rows in (("key", key), ("value", value)):
            if rows.ndim != 3 or rows.shape != (len(key), heads, width):
                raise ValueError(f"{name} must be [{len(key)}, {heads}, {width}], got {list(rows.shape)}")
        count = self.num_tokens + len(key)
        self._check_room(count)
        slots = self._slots(self.num_tokens, count)
        self._pool.write(self._layer, slots, key.to(self._group.dtype), value.to(self._group.dtype))
        self.num_tokens = count

    def gather(self) -> tuple[Tensor, Tensor]:
        """All keys and values as stored, each `[num_tokens, num_kv_heads, head_dim]` in the model's dtype."""
        return self._pool.read_slots(self._layer, self._slots(0, self.num_tokens))

    def _slots(self, start: int, stop: int) -> Tensor:
        """int64 `[stop - start]`, the slots of the tokens at these positions."""
        size, device = self._pool.layout.block_size, self._pool.device
        table = torch.tensor(self._table, dtype=torch.int64, device=device)
        positions = torch.arange(start, stop, device=device)
        return table[positions // size] * size + positions % size

    @property
    def _table(self) -> Sequence[int]:
        source = self._source
        return source if isinstance(source, Sequence) else source.block_table

    def _check_room(self, num_tokens: int) -> None:
        room = len(self._table) * self._pool.layout.block_size
        if not 0 <= num_tokens <= room:
            raise ValueError(f"num_tokens must be within 0..{room}, the room of the table, got {num_tokens}")
