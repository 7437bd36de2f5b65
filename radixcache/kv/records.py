"""Whole blocks as records of bytes: what leaves a pool for another tier or process, and comes back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from radixcache.kv.tensors import GroupTensors


def export_blocks(groups: Sequence[GroupTensors], blocks: Tensor, out: Tensor) -> None:
    """Copy blocks to `out`, uint8 `[len(blocks), bytes of a block]`; see `PagedPool.export`."""
    if out.device.type == "cuda":
        move_with_kernels(groups, blocks, out, to_pool=False)
        return
    for record, block in zip(out, blocks.tolist(), strict=True):
        for stored, part in _parts(groups, block, record):
            part.copy_(stored)


def load_blocks(groups: Sequence[GroupTensors], blocks: Tensor, data: Tensor) -> None:
    """Copy the records `data` to blocks; the inverse of `export_blocks`."""
    if data.device.type == "cuda":
        move_with_kernels(groups, blocks, data, to_pool=True)
        return
    for record, block in zip(data, blocks.tolist(), strict=True):
        for stored, part in _parts(groups, block, record):
            stored.copy_(part)


def move_with_kernels(
    groups: Sequence[GroupTensors], blocks: Tensor, staging: Tensor, *, to_pool: bool
) -> None:
    """The same by kernels, one launch a group: on a GPU, or in Triton's interpreter."""
    from radixcache_kernels import gather_blocks, scatter_blocks

    move = scatter_blocks if to_pool else gather_blocks
    first = 0
    for tensors in groups:
        last = first + sum(part[:, 0].nbytes for part in tensors.parts)
        move(
            tensors.keys,
            tensors.values,
            blocks,
            staging[:, first:last],
            k_scales=tensors.key_scales,
            v_scales=tensors.value_scales,
        )
        first = last


def _parts(groups: Sequence[GroupTensors], block: int, record: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Each tensor's bytes of a block, `[layers, bytes]`, and where they are in the record."""
    first = 0
    for tensors in groups:
        for storage in tensors.parts:
            stored = storage[:, block].flatten(1).view(torch.uint8)
            last = first + stored.numel()
            yield stored, record[first:last].view(stored.shape)
            first = last
