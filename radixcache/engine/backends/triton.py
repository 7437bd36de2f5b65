"""Triton kernels over the pool: on a GPU, or on a CPU in Triton's interpreter (for tests)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radixcache.cache.lease import BlockCopy
from radixcache.engine.backends.base import Backend, LayerOptions
from radixcache.engine.staging import to_device
from radixcache.engine.step import StepBatch
from radixcache.kv.pool import PagedPool
from radixcache_kernels import (
    AttentionPlanner,
    AttentionShape,
    DevicePlan,
    PlanCapacity,
    attention_bits,
    copy_blocks,
    paged_attention,
    plan_options,
    write_kv,
)


class _LayerKind(NamedTuple):
    """What a plan depends on besides the batch: layers of one kind share it."""

    window: int | None
    heads: int


class _Step(NamedTuple):
    """The step's tables, lengths and row starts on the host, and whether it is recorded."""

    tables: NDArray[np.int32]
    lengths: NDArray[np.int32]
    starts: NDArray[np.int32]
    fixed: bool


class TritonBackend(Backend):
    """Hands block tables and plans, prepared once a step, to the kernels of every layer."""

    def __init__(self, pool: PagedPool) -> None:
        super().__init__(pool)
        self._slots = self._tables = self._lengths = self._starts = torch.empty(0)
        self._step: _Step
        self._planners: dict[_LayerKind, AttentionPlanner] = {}
        self._device_plans: dict[tuple[_LayerKind, tuple[int, ...]], DevicePlan] = {}
        self._plans: dict[_LayerKind, DevicePlan] = {}

    def same_bits(self, num_heads: int, dtype: torch.dtype) -> str | None:
        """Try whether all tiles that attention runs in give a row the same bits on this device.

        Args:
            num_heads: query heads of the model's layers.
            dtype: of queries, keys and values as the model computes them.

        Returns:
            None if they do; else, in one line, what differs.
        """
        layout = self.pool.layout
        shape = AttentionShape(
            num_heads,
            layout.num_kv_heads,
            layout.head_dim,
            dtype,
            self.pool.keys[0].dtype,
            layout.block_size,
        )
        return attention_bits(shape, self.pool.device)

    def close(self) -> None:
        self._slots = self._tables = self._lengths = self._starts = torch.empty(0)
        self._planners.clear()
        self._device_plans.clear()
        self._plans.clear()

    def copy(self, copies: Sequence[BlockCopy]) -> None:
        array = np.ascontiguousarray(np.asarray(copies, dtype=np.int64).T)
        sources, targets, lengths = to_device(array, self.pool.device)
        copy_blocks(
            self.pool.key_storage,
            self.pool.value_storage,
            sources,
            targets,
            lengths,
            k_scales=self.pool.key_scale_storage,
            v_scales=self.pool.value_scale_storage,
        )

    def begin(self, batch: StepBatch) -> None:
        tables = np.full((batch.num_lines, batch.table_width), self.pool.null_block, dtype=np.int32)
        lengths = np.zeros(batch.num_lines, dtype=np.int32)
        starts = np.arange(batch.num_lines + 1, dtype=np.int32)
        counts = []
        for line, item in zip(tables, batch.sequences, strict=False):
            line[: len(item.block_table)] = item.block_table
            counts.append(len(item.tokens))
            lengths[len(counts) - 1] = item.start + len(item.tokens)
        if not batch.fixed:
            np.cumsum(counts, out=starts[1:])
        self._slots = batch.slots
        self._tables = batch.upload("tables", tables)
        self._lengths = batch.upload("lengths", lengths)
        self._starts = batch.upload("starts", starts)
        self._step = _Step(tables, lengths, starts, batch.fixed)
        self._plans = {kind: self._load_plan(kind) for kind in self._planners}

    def write(self, layer: int, key: Tensor, value: Tensor) -> None:
        write_kv(
            key,
            value,
            self.pool.keys[layer],
            self.pool.values[layer],
            self._slots,
            k_scales=self.pool.key_scales[layer],
            v_scales=self.pool.value_scales[layer],
        )

    def attend(self, layer: int, query: Tensor, options: LayerOptions) -> Tensor:
        return paged_attention(
            query,
            self.pool.keys[layer],
            self.pool.values[layer],
            self._tables,
            self._lengths,
            self._starts,
            scale=options.scale,
            k_scales=self.pool.key_scales[layer],
            v_scales=self.pool.value_scales[layer],
            sliding_window=options.window,
            soft_cap=options.soft_cap,
            sinks=options.sinks,
            plan=self._plan(_LayerKind(options.window, query.shape[1])),
        )

    def _plan(self, kind: _LayerKind) -> DevicePlan:
        """The step's plan for layers of a kind; of those met before, `begin` has loaded it."""
        if kind not in self._planners:
            layout, keys = self.pool.layout, self.pool.keys[0]
            options = plan_options(
                kind.heads,
                layout.num_kv_heads,
                layout.head_dim,
                layout.block_size,
                kv_bytes=keys.element_size() * keys.shape[-1] / layout.head_dim,
                sliding_window=kind.window,
            )
            self._planners[kind] = AttentionPlanner(options)
            self._plans[kind] = self._load_plan(kind)
        return self._plans[kind]

    def _load_plan(self, kind: _LayerKind) -> DevicePlan:
        planner, layout = self._planners[kind], self.pool.layout
        tables, lengths, starts, fixed = self._step
        # A recorded step reads its plan where it was when recorded; the others share one that grows.
        size = tables.shape if fixed else ()
        known = self._device_plans.get((kind, size))
        if known is None:
            capacity = None
            if fixed:
                capacity = PlanCapacity.of_decodes(
                    planner.options, len(tables), tables.shape[1] * layout.block_size
                )
            known = DevicePlan(self.pool.device, layout.num_kv_heads, capacity)
            self._device_plans[kind, size] = known
        known.load(planner.step(tables, lengths, starts))
        return known
