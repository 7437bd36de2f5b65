"""Triton kernels over the pool: on a GPU, or on a CPU in Triton's interpreter (for tests)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from radixcache.cache.lease import BlockCopy
from radixcache.engine.backends.base import Backend, LayerOptions
from radixcache.engine.backends.tables import StepTables, step_tables
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
    """What a plan depends on besides the batch: layers of one kind share it.

    Attributes:
        group: number of the layers' group in the layout.
        window: sliding window.
        heads: query heads.
    """

    group: int
    window: int | None
    heads: int


class TritonBackend(Backend):
    """Hands block tables and plans, prepared once a step, to the kernels of every layer."""

    def __init__(self, pool: PagedPool) -> None:
        super().__init__(pool)
        self._slots = self._tables = self._lengths = self._starts = torch.empty(0)
        self._step: StepTables
        self._fixed = False  # the step is recorded
        self._planners: dict[_LayerKind, AttentionPlanner] = {}
        self._device_plans: dict[tuple[_LayerKind, tuple[int, ...]], DevicePlan] = {}
        self._plans: dict[_LayerKind, DevicePlan] = {}

    def same_bits(self, num_heads: Sequence[int], dtype: torch.dtype) -> str | None:
        """Try whether all tiles that attention runs in give a row the same bits on this device.

        Args:
            num_heads: query heads of each layer of the model.
            dtype: of queries, keys and values as the model computes them.

        Returns:
            None if they do; else, in one line, what differs.
        """
        layout = self.pool.layout
        shapes = {
            AttentionShape(
                heads, group.num_kv_heads, group.head_dim, dtype, group.stored, layout.block_size
            ): None
            for group in layout.groups
            for heads in {num_heads[layer] for layer in group.layers}
        }
        found = (attention_bits(shape, self.pool.device) for shape in shapes)
        return next((differing for differing in found if differing is not None), None)

    def close(self) -> None:
        self._slots = self._tables = self._lengths = self._starts = torch.empty(0)
        self._planners.clear()
        self._device_plans.clear()
        self._plans.clear()

    def copy(self, copies: Sequence[BlockCopy]) -> None:
        array = np.ascontiguousarray(np.asarray(copies, dtype=np.int64).T)
        sources, targets, lengths = to_device(array, self.pool.device)
        for tensors in self.pool.groups:
            copy_blocks(
                tensors.keys,
                tensors.values,
                sources,
                targets,
                lengths,
                k_scales=tensors.key_scales,
                v_scales=tensors.value_scales,
            )
        self.renewed([item.target for item in copies])

    def begin(self, batch: StepBatch) -> None:
        self._step = step_tables(batch, self.pool.null_block, batch.table_width)
        self._fixed = batch.fixed
        self._slots = batch.slots
        self._tables = batch.upload("tables", self._step.tables)
        self._lengths = batch.upload("lengths", self._step.lengths)
        self._starts = batch.upload("starts", self._step.starts)
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
            plan=self._plan(_LayerKind(self.pool.layout.places[layer].group, options.window, query.shape[1])),
        )

    def _plan(self, kind: _LayerKind) -> DevicePlan:
        """The step's plan for layers of a kind; of those met before, `begin` has loaded it."""
        if kind not in self._planners:
            group = self.pool.layout.groups[kind.group]
            options = plan_options(
                kind.heads,
                group.num_kv_heads,
                group.head_dim,
                self.pool.layout.block_size,
                kv_bytes=group.stored.itemsize * group.width / group.head_dim,
                sliding_window=kind.window,
            )
            self._planners[kind] = AttentionPlanner(options)
            self._plans[kind] = self._load_plan(kind)
        return self._plans[kind]

    def _load_plan(self, kind: _LayerKind) -> DevicePlan:
        planner, layout = self._planners[kind], self.pool.layout
        tables, lengths, starts = self._step
        # A recorded step reads its plan where it was when recorded; the others share one that grows.
        size = tables.shape if self._fixed else ()
        known = self._device_plans.get((kind, size))
        if known is None:
            capacity = None
            if self._fixed:
                capacity = PlanCapacity.of_decodes(
                    planner.options, len(tables), tables.shape[1] * layout.block_size
                )
            known = DevicePlan(self.pool.device, layout.groups[kind.group].num_kv_heads, capacity)
            self._device_plans[kind, size] = known
        known.load(planner.step(tables, lengths, starts))
        return known
