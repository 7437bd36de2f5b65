"""The paged pool: keys and values of all layers, addressed by block."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from radixcache.kv.layout import KVLayout


class PagedPool:
    """Keys and values of `num_blocks` blocks, for every layer.

    `keys[layer]` and `values[layer]` have shape
    `[num_blocks + 1, block_size, num_kv_heads, head_dim]`; they are views of one tensor of
    keys and one of values. `key_slots` and `value_slots` are the same with blocks and tokens as
    one dimension. The extra last block (`null_block`) is never written: it pads
    block tables, so that padded reads are zeros. All blocks start as zeros and `clear`
    restores that before a block is reused: a masked read of an unwritten slot must find a
    finite number, since 0 x NaN is NaN.
    """

    def __init__(self, layout: KVLayout, num_blocks: int, device: torch.device) -> None:
        shape = (
            layout.num_layers,
            num_blocks + 1,
            layout.block_size,
            layout.num_kv_heads,
            layout.head_dim,
        )
        self.layout = layout
        self.num_blocks = num_blocks
        self.null_block = num_blocks
        self.device = device
        self.key_storage = _zeros(shape, layout.dtype, device)
        self.value_storage = _zeros(shape, layout.dtype, device)
        self.keys = list(self.key_storage.unbind(0))
        self.values = list(self.value_storage.unbind(0))
        self.key_slots = [keys.flatten(0, 1) for keys in self.keys]
        self.value_slots = [values.flatten(0, 1) for values in self.values]

    def clear(self, blocks: Sequence[int]) -> None:
        """Zero the given blocks in every layer."""
        index = torch.tensor(blocks, dtype=torch.int64, device=self.device)
        self.key_storage.index_fill_(1, index, 0)
        self.value_storage.index_fill_(1, index, 0)


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    # numpy asks the system for zeroed pages, which take no memory until they are written.
    flat = np.zeros(math.prod(shape) * dtype.itemsize, dtype=np.uint8)
    return torch.from_numpy(flat).view(dtype).view(shape)
