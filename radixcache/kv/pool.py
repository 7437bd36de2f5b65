"""The paged pool: keys and values of all layers, addressed by block."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from radixcache.kv import records
from radixcache.kv.layout import KVLayout
from radixcache.kv.tensors import zeroed_tensors
from radixcache_kernels.formats import dequantise, quantise


class PagedPool:
    """Keys and values of `num_blocks` blocks, for every layer.

    `keys[layer]` and `values[layer]` have shape
    `[num_blocks + 1, block_size, num_kv_heads, head_dim]`; they are views of the tensors of the
    layer's group, of its stored type. `key_slots` and `value_slots` are the
    same with blocks and tokens as one dimension. (Of int4, whose bytes hold two codes, the last
    dimension is half as wide.) Layers of quantised groups have `key_scales` and `value_scales`,
    `[num_blocks + 1, block_size, num_kv_heads, ...]`; those of others are None.

    The extra last block (`null_block`) is never written: it pads block tables, so that padded reads
    are zeros. All blocks start as zeros and `clear` restores that before a block is reused: a masked
    read of an unwritten slot must find a finite number, since 0 x NaN is NaN.

    A backend may keep copies of what it has read. Code that changes blocks by `clear`, `load` or `write`
    without going through the backend must call `Backend.renewed`.

    Attributes:
        groups: the tensors of each group of the layout.
        storages: the tensors of all groups, whose second dimension is blocks and third is tokens. What moves
            blocks moves all of them.

    Raises:
        ValueError: the device cannot compute with the layout's stored type.
    """

    def __init__(self, layout: KVLayout, num_blocks: int, device: torch.device) -> None:
        self.layout = layout
        self.num_blocks = num_blocks
        self.null_block = num_blocks
        self.device = device
        for group in layout.groups:
            _check_device(group.stored, device)
        self.groups = [
            zeroed_tensors(group, (num_blocks + 1, layout.block_size), device) for group in layout.groups
        ]
        self.storages = [part for tensors in self.groups for part in tensors.parts]
        self.keys = self._by_layer([tensors.keys for tensors in self.groups])
        self.values = self._by_layer([tensors.values for tensors in self.groups])
        self.key_slots = [keys.flatten(0, 1) for keys in self.keys]
        self.value_slots = [values.flatten(0, 1) for values in self.values]
        self.key_scales = self._scales_by_layer([tensors.key_scales for tensors in self.groups])
        self.value_scales = self._scales_by_layer([tensors.value_scales for tensors in self.groups])

    def free(self) -> None:
        """Free the memory, whatever still refers to the pool; it cannot be used afterwards."""
        for tensors in (self.storages, self.keys, self.values, self.key_slots, self.value_slots):
            tensors.clear()
        self.groups.clear()
        self.key_scales, self.value_scales = [], []

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
        """Keys and values of blocks, each `[n, block_size, num_kv_heads, head_dim]` in the model's dtype."""
        return (
            self._read(layer, self.keys[layer], self.key_scales[layer], blocks),
            self._read(layer, self.values[layer], self.value_scales[layer], blocks),
        )

    def read_slots(self, layer: int, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of single tokens, each `[n, num_kv_heads, head_dim]` in the model's dtype."""
        key_scales, value_scales = (
            None if scales is None else scales.flatten(0, 1)
            for scales in (self.key_scales[layer], self.value_scales[layer])
        )
        return (
            self._read(layer, self.key_slots[layer], key_scales, slots),
            self._read(layer, self.value_slots[layer], value_scales, slots),
        )

    def export(self, blocks: Sequence[int], *, out: Tensor | None = None) -> Tensor:
        """Copy whole blocks of all layers out of the pool, one contiguous record a block.

        A record is the stored bytes, in the same order on every device: group by group the keys of each
        layer, the values of each layer and, beside codes, the scales of the keys and those of the values.
        Two pools can exchange records if their layouts have the same `fingerprint`.

        Args:
            blocks: which, in the order of the records.
            out: uint8 `[len(blocks), bytes_per_block]` on the pool's device, contiguous; made if None.

        Returns:
            The records. On a GPU the copy is queued on the current stream.

        Raises:
            ValueError: a block that is not in the pool, or an `out` that does not fit.
        """
        index = self._index(blocks)
        shape = (len(blocks), self.layout.bytes_per_block)
        if out is None:
            out = torch.empty(shape, dtype=torch.uint8, device=self.device)
        self._check_records("out", out, shape)
        records.export_blocks(self.groups, index, out)
        return out

    def load(self, blocks: Sequence[int], data: Tensor) -> None:
        """Fill whole blocks of all layers from records of `export`.

        What a backend has kept of these blocks is stale afterwards: call `Backend.renewed`.

        Args:
            blocks: which to fill, distinct.
            data: uint8 `[len(blocks), bytes_per_block]` on the pool's device, contiguous.

        Raises:
            ValueError: a block that is not in the pool or that is named twice, or data that does not fit;
                nothing is written then.
        """
        if len(set(blocks)) != len(blocks):
            twice = next(block for place, block in enumerate(blocks) if block in blocks[:place])
            raise ValueError(f"blocks must be distinct, got {twice} twice")
        index = self._index(blocks)
        self._check_records("data", data, (len(blocks), self.layout.bytes_per_block))
        records.load_blocks(self.groups, index, data)

    def _index(self, blocks: Sequence[int]) -> Tensor:
        for block in blocks:
            if not 0 <= block < self.num_blocks:
                raise ValueError(f"a block must be within 0..{self.num_blocks - 1}, got {block}")
        index = torch.tensor(blocks, dtype=torch.int64)
        if self.device.type == "cuda":
            index = index.pin_memory()
        return index.to(self.device, non_blocking=True)

    def _check_records(self, name: str, data: Tensor, shape: tuple[int, int]) -> None:
        fits = data.shape == shape and data.dtype == torch.uint8 and data.device.type == self.device.type
        if not (fits and data.is_contiguous()):
            raise ValueError(
                f"{name} must be contiguous torch.uint8 {list(shape)} on {self.device}, "
                f"got {data.dtype} {list(data.shape)} on {data.device}"
            )

    def _by_layer(self, by_group: list[Tensor]) -> list[Tensor]:
        return [by_group[place.group][place.layer] for place in self.layout.places]

    def _scales_by_layer(self, by_group: list[Tensor | None]) -> list[Tensor | None]:
        found = ((by_group[place.group], place.layer) for place in self.layout.places)
        return [None if scales is None else scales[layer] for scales, layer in found]

    def _read(self, layer: int, stored: Tensor, scales: Tensor | None, index: Tensor) -> Tensor:
        dtype = self.layout.group_of(layer).dtype
        chosen = stored.index_select(0, index)
        if scales is None:
            return chosen.to(dtype)
        return dequantise(chosen, scales.index_select(0, index), dtype)


def _check_device(stored: torch.dtype, device: torch.device) -> None:
    if stored == torch.float8_e4m3fn and device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if capability < (8, 9):
            found = ".".join(map(str, capability))
            raise ValueError(f"kv_dtype is 'fp8', which needs compute capability 8.9; {device} has {found}")


def _movable(tensor: Tensor) -> Tensor:
    """The tensor, or its bytes where torch has no indexed operations for its type on a CPU."""
    return tensor.view(torch.uint8) if tensor.dtype == torch.float8_e4m3fn else tensor
