"""The tensors of one group of layers in a pool."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from radixcache.kv.layout import LayerGroup
from radixcache_kernels.formats import head_scales


class GroupTensors(NamedTuple):
    """The tensors of a group of layers.

    Attributes:
        keys, values: `[layers, num_blocks + 1, block_size, num_kv_heads, width]` of the stored type.
        key_scales, value_scales: `[layers, num_blocks + 1, block_size, num_kv_heads, ...]`, beside codes; or
            None.
    """

    keys: Tensor
    values: Tensor
    key_scales: Tensor | None
    value_scales: Tensor | None

    @property
    def parts(self) -> list[Tensor]:
        """Those that there are, in the order in which a block's record holds them."""
        return [part for part in self if part is not None]


def zeroed_tensors(group: LayerGroup, blocks: tuple[int, int], device: torch.device) -> GroupTensors:
    """Tensors of zeros for a group: `blocks` is the number of blocks and the tokens of each."""
    shape = (len(group.layers), *blocks, group.num_kv_heads)
    scales = [head_scales(group.stored, group.head_dim, keys=keys) for keys in (True, False)]
    return GroupTensors(
        _zeros((*shape, group.width), group.stored, device),
        _zeros((*shape, group.width), group.stored, device),
        *(None if found is None else _zeros((*shape, *found[0]), found[1], device) for found in scales),
    )


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    # numpy asks the system for zeroed pages, which take no memory until they are written.
    flat = np.zeros(math.prod(shape) * dtype.itemsize, dtype=np.uint8)
    return torch.from_numpy(flat).view(dtype).view(shape)
