"""The paged pool: keys and values of all layers, addressed by block."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from radixcache.kv.formats import dequantise, quantise, scales_of, stored_width
from radixcache.kv.layout import KVLayout


class PagedPool:
    """Keys and values of `num_blocks` blocks, for every layer.

    `keys[layer]` and `values[layer]` have shape
    `[num_blocks + 1, block_size, num_kv_heads, head_dim]`; they are views of one tensor of
    keys and one of values, of the layout's stored type. `key_slots` and `value_slots` are the
    same with blocks and tokens as one dimension. (Of int4, whose bytes hold two codes, the last
    dimension is half as wide.) A quantised pool has `key_scales` and `value_scales`,
    `[num_blocks + 1, block_size, num_kv_heads, ...]` a layer, which are None otherwise.

    The extra last block (`null_block`) is never written: it pads block tables, so that padded reads
    are zeros. All blocks start as zeros and `clear` restores that before a block is reused: a masked
    read of an unwritten slot must find a finite number, since 0 x NaN is NaN.

    Attributes:
        storages: every tensor whose second dimension is blocks and third is tokens: keys, values and,
            of a quantised pool, the scales of both. What moves blocks moves all of them.

    Raises:
        ValueError: the device cannot compute with the layout's stored type.
    """

    def __init__(self, layout: KVLayout, num_blocks: int, device: torch.device) -> None:
        shape = (
            layout.num_layers,
            num_blocks + 1,
            layout.block_size,
            layout.num_kv_heads,
            stored_width(layout.stored, layout.head_dim),
        )
        if layout.stored == torch.float8_e4m3fn and device.type == "cuda":
            capability = torch.cuda.get_device_capability(device)
            if capability < (8, 9):
                found = ".".join(map(str, capability))
                raise ValueError(
                    f"kv_dtype is 'fp8', which needs compute capability 8.9; {device} has {found}"
                )
        self.layout = layout
        self.num_blocks = num_blocks
        self.null_block = num_blocks
        self.device = device
        self.key_storage = _zeros(shape, layout.stored, device)
        self.value_storage = _zeros(shape, layout.stored, device)
        self.storages = [self.key_storage, self.value_storage]
        self.keys = list(self.key_storage.unbind(0))
        self.values = list(self.value_storage.unbind(0))
        self.key_slots = [keys.flatten(0, 1) for keys in self.keys]
        self.value_slots = [values.flatten(0, 1) for values in self.values]
        self.key_scale_storage = self.value_scale_storage = None
        self.key_scales: list[Tensor] | list[None] = [None] * layout.num_layers
        self.value_scales: list[Tensor] | list[None] = [None] * layout.num_layers
        key_scales, value_scales = (
            scales_of(layout.stored, layout.head_dim, keys=keys) for keys in (True, False)
        )
        if key_scales is not None and value_scales is not None:
            self.key_scale_storage, self.value_scale_storage = (
                _zeros((*shape[:-1], *width), kind, device) for width, kind in (key_scales, value_scales)
            )
            self.storages += [self.key_scale_storage, self.value_scale_storage]
            self.key_scales = list(self.key_scale_storage.unbind(0))
            self.value_scales = list(self.value_scale_storage.unbind(0))

    def free(self) -> None:
        """Give the memory back, whoever still refers to the pool; it cannot be used afterwards."""
        for tensors in (self.storages, self.keys, self.values, self.key_slots, self.value_slots):
            tensors.clear()
        self.key_scales, self.value_scales = [], []
        empty = torch.empty(0)
        self.key_storage = self.value_storage = empty
        self.key_scale_storage = self.value_scale_storage = None

    def clear(self, blocks: Tensor) -> None:
        """Zero the given blocks, int64 on the pool's device, in every layer."""
        for storage in self.storages:
            _movable(storage).index_fill_(1, blocks, 0)

    def write(self, layer: int, slots: Tensor, key: Tensor, value: Tensor) -> None:
        """Store keys and values `[n, num_kv_heads, head_dim]` at slots, int64 block x block_size + offset."""
        for numbers, stored, scales, keys in (
            (key, self.key_slots[layer], self.key_scales[layer], True),
            (value, self.value_slots[layer], self.value_scales[layer], False),
        ):
            if scales is None:
                stored.index_copy_(0, slots, numbers.to(stored.dtype))
            else:
                codes, steps = quantise(numbers, stored.dtype, keys=keys)
                _movable(stored).index_copy_(0, slots, _movable(codes))
                scales.flatten(0, 1).index_copy_(0, slots, steps)

    def read_blocks(self, layer: int, blocks: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of blocks, each `[n, block_size, num_kv_heads, head_dim]` in the layout's dtype."""
        return (
            self._read(self.keys[layer], self.key_scales[layer], blocks),
            self._read(self.values[layer], self.value_scales[layer], blocks),
        )

    def read_slots(self, layer: int, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of single tokens, each `[n, num_kv_heads, head_dim]` in the layout's dtype."""
        key_scales, value_scales = (
            None if scales is None else scales.flatten(0, 1)
            for scales in (self.key_scales[layer], self.value_scales[layer])
        )
        return (
            self._read(self.key_slots[layer], key_scales, slots),
            self._read(self.value_slots[layer], value_scales, slots),
        )

    def _read(self, stored: Tensor, scales: Tensor | None, index: Tensor) -> Tensor:
        chosen = stored.index_select(0, index)
        if scales is None:
            return chosen.to(self.layout.dtype)
        return dequantise(chosen, scales.index_select(0, index), self.layout.dtype)


def _movable(tensor: Tensor) -> Tensor:
    """The tensor, or its bytes where torch has no indexed operations for its type on a CPU."""
    return tensor.view(torch.uint8) if tensor.dtype == torch.float8_e4m3fn else tensor


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    # numpy asks the system for zeroed pages, which take no memory until they are written.
    flat = np.zeros(math.prod(shape) * dtype.itemsize, dtype=np.uint8)
    return torch.from_numpy(flat).view(dtype).view(shape)
