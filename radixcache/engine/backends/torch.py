"""Attention on a CPU: torch's fused kernel over gathered splits, merged in a fixed order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from radixcache.engine.backends.base import Backend, LayerOptions
from radixcache.engine.backends.split_plan import SPLIT, SplitCall, SplitPlan, plan_splits
from radixcache.engine.step import StepBatch
from radixcache.kv.pool import PagedPool
from radixcache.lease import BlockCopy

_fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


class TorchBackend(Backend):
    """Gathers each split from the pool and attends all rows that meet it in one go."""

    def __init__(self, pool: PagedPool) -> None:
        super().__init__(pool)
        self._batch: StepBatch | None = None
        self._plans: dict[int | None, SplitPlan] = {}

    def begin(self, batch: StepBatch) -> None:
        self._batch = batch
        self._plans.clear()

    def copy(self, copies: Sequence[BlockCopy]) -> None:
        by_length: dict[int, list[BlockCopy]] = {}
        for item in copies:
            by_length.setdefault(item.num_tokens, []).append(item)
        for length, group in by_length.items():
            sources = torch.tensor([item.source for item in group])
            targets = torch.tensor([item.target for item in group])
            for storage in (self.pool.key_storage, self.pool.value_storage):
                storage[:, targets, :length] = storage[:, sources, :length]

    def write(self, layer: int, key: Tensor, value: Tensor) -> None:
        assert self._batch is not None
        self.pool.keys[layer].flatten(0, 1).index_copy_(0, self._batch.slots, key)
        self.pool.values[layer].flatten(0, 1).index_copy_(0, self._batch.slots, value)

    def _plan(self, window: int | None) -> SplitPlan:
        plan = self._plans.get(window)
        if plan is None:
            assert self._batch is not None
            plan = plan_splits(
                self._batch.sequences,
                self.pool.layout.block_size,
                self.pool.null_block,
                window=window,
            )
            self._plans[window] = plan
        return plan

    def attend(self, layer: int, query: Tensor, options: LayerOptions) -> Tensor:
        plan = self._plan(options.window)
        rows, heads, head_dim = query.shape
        outputs = query.new_zeros((plan.depth * rows, heads, head_dim), dtype=torch.float32)
        weights = query.new_full((plan.depth * rows, heads), -torch.inf, dtype=torch.float32)
        for call in plan.calls:
            out, lse = self._partial(layer, query, call, options)
            outputs.index_copy_(0, call.targets, out)
            weights.index_copy_(0, call.targets, lse)
        merged = _merge(
            outputs.view(plan.depth, rows, heads, head_dim),
            weights.view(plan.depth, rows, heads),
            options.sinks,
        )
        return merged.to(query.dtype)

    def _partial(
        self, layer: int, query: Tensor, call: SplitCall, options: LayerOptions
    ) -> tuple[Tensor, Tensor]:
        """Float32 results `[splits x n, heads, head_dim]` and log-sum-exps `[splits x n, heads]`."""
        heads, head_dim = query.shape[1:]
        keys = self._gather(self.pool.keys[layer], call.blocks)
        values = self._gather(self.pool.values[layer], call.blocks)
        splits, kv_heads = keys.shape[:2]
        group = heads // kv_heads
        batch, count = call.rows.shape
        # The query heads that share a key/value head become rows of one product with it.
        packed = query.index_select(0, call.rows.view(-1)).view(batch, count, kv_heads, group, head_dim)
        packed = packed.transpose(1, 2).reshape(batch, kv_heads, count * group, head_dim)
        packed = packed.expand(splits, -1, -1, -1)
        mask = call.mask
        if mask is not None:
            mask = mask.repeat_interleave(group, dim=2) if group > 1 else mask
        if options.soft_cap is None:
            mask = mask.to(query.dtype) if mask is not None else None
            out, lse = _fused(packed, keys, values, attn_mask=mask, scale=options.scale)
        else:
            out, lse = _soft_capped(packed, keys, values, mask, options.scale, options.soft_cap)
        out = out.view(splits, kv_heads, count, group, head_dim).transpose(1, 2)
        lse = lse.view(splits, kv_heads, count, group).transpose(1, 2)
        return (
            out.reshape(splits * count, heads, head_dim).float(),
            lse.reshape(splits * count, heads).float(),
        )

    def _gather(self, pool: Tensor, blocks: Tensor) -> Tensor:
        """`[splits, kv_heads, SPLIT, head_dim]` of the listed blocks."""
        kv_heads, head_dim = pool.shape[2:]
        return pool.index_select(0, blocks).view(-1, SPLIT, kv_heads, head_dim).transpose(1, 2)


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
        scores = scores + mask
    top = scores.amax(-1, keepdim=True)
    weights = torch.exp(scores - top)
    total = weights.sum(-1, keepdim=True)
    if rows == 1:
        weights = weights.expand(-1, -1, 2, -1)
    out = torch.matmul(weights, values.float())[:, :, :rows] / total
    return out.contiguous(), (top + torch.log(total)).squeeze(-1)


def _merge(outputs: Tensor, lse: Tensor, sinks: Tensor | None) -> Tensor:
    """Merge partial results by log-sum-exp, as FlashDecoding does, in a fixed order.

    Sums run over a binary tree on the split's position, so that absent splits, which weigh
    exactly 0, change no bit however many there are.

    Args:
        outputs: `[depth, rows, heads, head_dim]`, finite everywhere.
        lse: `[depth, rows, heads]`, -inf where a row does not meet a split.
        sinks: `[heads]` or None.
    """
    if outputs.shape[0] == 1 and sinks is None:
        return outputs[0]
    top = lse.amax(0)
    if sinks is not None:
        top = torch.maximum(top, sinks.float())
    weights = torch.exp(lse - top)
    total = _tree_sum(weights)
    if sinks is not None:
        total = total + torch.exp(sinks.float() - top)
    return _tree_sum(outputs.mul_(weights.unsqueeze(-1))) / total.unsqueeze(-1)


def _tree_sum(terms: Tensor) -> Tensor:
    """Sum over the first dimension, a power of two, by halves of neighbours."""
    while terms.shape[0] > 1:
        terms = terms[0::2] + terms[1::2]
    return terms[0]
