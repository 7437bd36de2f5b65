"""Triton kernels over the pool: on a GPU, or on a CPU in Triton's interpreter (for tests)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import numpy as np
import torch
from torch import Tensor

from radixcache.engine.backends.base import Backend, LayerOptions
from radixcache.engine.step import StepBatch
from radixcache.kv.pool import PagedPool
from radixcache.lease import BlockCopy
from radixcache_kernels import copy_blocks, paged_attention, write_kv


class TritonBackend(Backend):
    """Hands block tables, prepared once a step, to the kernels of every layer."""

    def __init__(self, pool: PagedPool) -> None:
        super().__init__(pool)
        self._slots = self._tables = self._lengths = self._starts = torch.empty(0)
        self._num_decodes = 0

    def copy(self, copies: Sequence[BlockCopy]) -> None:
        sources, targets, lengths = (
            torch.tensor(copies, dtype=torch.int64).T.contiguous().to(self.pool.device)
        )
        copy_blocks(self.pool.key_storage, self.pool.value_storage, sources, targets, lengths)

    def begin(self, batch: StepBatch) -> None:
        counts = [len(item.tokens) for item in batch.sequences]
        widest = max(len(item.block_table) for item in batch.sequences)
        tables = np.full((len(counts), widest), self.pool.null_block, dtype=np.int32)
        for line, item in zip(tables, batch.sequences, strict=True):
            line[: len(item.block_table)] = item.block_table
        lengths = np.asarray([item.start + len(item.tokens) for item in batch.sequences], dtype=np.int32)
        starts = np.cumsum([0, *counts], dtype=np.int32)
        self._slots = batch.slots
        self._tables = torch.from_numpy(tables).to(self.pool.device)
        self._lengths = torch.from_numpy(lengths).to(self.pool.device)
        self._starts = torch.from_numpy(starts).to(self.pool.device)
        self._num_decodes = sum(1 for _ in takewhile(lambda count: count == 1, counts))

    def write(self, layer: int, key: Tensor, value: Tensor) -> None:
        write_kv(key, value, self.pool.keys[layer], self.pool.values[layer], self._slots)

    def attend(self, layer: int, query: Tensor, options: LayerOptions) -> Tensor:
        return paged_attention(
            query,
            self.pool.keys[layer],
            self.pool.values[layer],
            self._tables,
            self._lengths,
            self._starts,
            scale=options.scale,
            sliding_window=options.window,
            soft_cap=options.soft_cap,
            sinks=options.sinks,
            num_decodes=self._num_decodes,
        )
