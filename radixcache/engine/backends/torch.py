"""Attention on a CPU: torch's fused kernel over gathered splits, merged in a fixed order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from radixcache.engine.backends.base import Backend, LayerOptions
from radixcache.engine.backends.kept import KeptSplits
from radixcache.engine.backends.merge import merge
from radixcache.engine.backends.prepared import PreparedCall, PreparedPlan
from radixcache.engine.backends.split_plan import plan_splits
from radixcache.engine.step import StepBatch
from radixcache.kv.pool import PagedPool
from radixcache.lease import BlockCopy

_fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default


class TorchBackend(Backend):
    """Gathers each split from the pool and attends all rows that meet it in one go."""

    def __init__(self, pool: PagedPool) -> None:
        super().__init__(pool)
        self._batch: StepBatch | None = None
        self._plans: dict[tuple[int | None, int], PreparedPlan] = {}
        self._kept: dict[tuple[int | None, int], KeptSplits] = {}

    def clear(self, blocks: Sequence[int]) -> None:
        super().clear(blocks)
        for kept in self._kept.values():
            kept.forget(blocks)

    def close(self) -> None:
        self._batch = None
        self._plans.clear()
        self._kept.clear()

    def begin(self, batch: StepBatch) -> None:
        self._batch = batch
        self._plans.clear()
        for kept in self._kept.values():
            kept.begin()

    def copy(self, copies: Sequence[BlockCopy]) -> None:
        by_length: dict[int, list[BlockCopy]] = {}
        for item in copies:
            by_length.setdefault(item.num_tokens, []).append(item)
        for length, group in by_length.items():
            sources = torch.tensor([item.source for item in group])
            targets = torch.tensor([item.target for item in group])
            for storage in self.pool.storages:
                storage[:, targets, :length] = storage[:, sources, :length]

    def write(self, layer: int, key: Tensor, value: Tensor) -> None:
        assert self._batch is not None
        self.pool.write(layer, self._batch.slots, key, value)

    def attend(self, layer: int, query: Tensor, options: LayerOptions) -> Tensor:
        rows, heads, head_dim = query.shape
        plan = self._plan(options.window, heads, query.dtype)
        kv_heads, group = self.pool.layout.num_kv_heads, plan.group
        plan.query.view(kv_heads, rows, group, head_dim).copy_(
            query.view(rows, kv_heads, group, head_dim).transpose(0, 1)
        )
        partials = [self._attend_splits(plan, call, layer, options) for call in plan.calls]
        sinks = options.sinks
        if sinks is not None:
            sinks = sinks.float().view(kv_heads, 1, group).expand(-1, rows, -1).reshape(-1)
        merged = merge(plan, partials, sinks)
        return merged.view(kv_heads, rows, group, head_dim).transpose(0, 1).flatten(1, 2).to(query.dtype)

    def _attend_splits(
        self, plan: PreparedPlan, call: PreparedCall, layer: int, options: LayerOptions
    ) -> Tensor:
        """Attend a call's rows over its splits; what the results weigh is put in its place."""
        keys, values = call.splits(layer)
        out: Tensor
        query = call.query
        if query is None:
            assert call.lines is not None
            query = plan.query.index_select(1, call.lines)
            query = query.view(len(query), *call.shape, -1).transpose(0, 1)
            query = query.expand(len(keys), -1, -1, -1)
        if options.soft_cap is None:
            out, lse = _fused(query, keys, values, attn_mask=call.mask, scale=options.scale)
        else:
            out, lse = _soft_capped(query, keys, values, call.mask, options.scale, options.soft_cap)
        if isinstance(call.places, Tensor):
            plan.lse.flatten().index_copy_(0, call.places, lse.reshape(-1).float())
        else:
            call.places.lse.copy_(lse)
        return out

    def _plan(self, window: int | None, heads: int, dtype: torch.dtype) -> PreparedPlan:
        """The step's plan for layers of this window and number of heads; made by the first of them."""
        plan = self._plans.get((window, heads))
        if plan is None:
            assert self._batch is not None
            splits = plan_splits(
                self._batch.sequences, self.pool.layout.block_size, self.pool.null_block, window=window
            )
            kept = self._kept.setdefault((window, heads), KeptSplits(self.pool))
            plan = self._plans[window, heads] = PreparedPlan(
                splits, self.pool, kept, self._batch.num_rows, heads, dtype
            )
        return plan


def _soft_capped(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float, cap: float
) -> tuple[Tensor, Tensor]:
    """One split's attention with capped scores, which the fused kernel does not know."""
    rows = query.shape[2]
    if rows == 1:
        # A product with one row takes another path in BLAS, with other rounding.
        query = query.expand(-1, -1, 2, -1)
    scores = torch.matmul(query.float(), keys.float().transpose(-1, -2))[:, :, :rows]
    scores = torch.tanh(scores * (scale / cap)) * cap
    if mask is not None:
        scores = scores + mask.float()
    top = scores.amax(-1, keepdim=True)
    weights = torch.exp(scores - top)
    total = weights.sum(-1, keepdim=True)
    if rows == 1:
        weights = weights.expand(-1, -1, 2, -1)
    out = torch.matmul(weights, values.float())[:, :, :rows] / total
    return out.contiguous(), (top + torch.log(total)).squeeze(-1)
