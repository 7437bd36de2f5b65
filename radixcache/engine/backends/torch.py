"""Attention on a CPU: torch's fused kernel over gathered splits, merged in a fixed order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from radixcache.engine.backends.base import Backend, LayerOptions
from radixcache.engine.backends.kept import GatheredCall, KeptSplits
from radixcache.engine.backends.split_plan import SplitCall, plan_splits
from radixcache.engine.step import StepBatch
from radixcache.kv.pool import PagedPool
from radixcache.lease import BlockCopy

_fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


class _Call(NamedTuple):
    """A `SplitCall` for a number of heads, as tensors.

    Attributes:
        queries: int64, rows of the query viewed as `[rows x heads, head_dim]`, in the order
            `[rows_batch, kv_heads, n x group]`: the heads that share a key/value head become
            rows of one product with it.
        shape: those three sizes.
        splits: gathered keys and values, or the slice of blocks to read in place.
        length: tokens a stretch.
        mask: `[splits, 1, n x group, length]` in the query's dtype, or None.
        targets: int64, rows of the merge buffer viewed as `[depth x rows x heads, head_dim]`.
    """

    queries: Tensor
    shape: tuple[int, int, int]
    splits: GatheredCall | slice
    length: int
    mask: Tensor | None
    targets: Tensor


class _Plan(NamedTuple):
    calls: list[_Call]
    depth: int
    shallow: int


class TorchBackend(Backend):
    """Gathers each split from the pool and attends all rows that meet it in one go."""

    def __init__(self, pool: PagedPool) -> None:
        super().__init__(pool)
        self._batch: StepBatch | None = None
        self._plans: dict[tuple[int | None, int], _Plan] = {}
        self._kept: dict[tuple[int | None, int], KeptSplits] = {}

    def clear(self, blocks: Sequence[int]) -> None:
        super().clear(blocks)
        for kept in self._kept.values():
            kept.forget(blocks)

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
            for storage in (self.pool.key_storage, self.pool.value_storage):
                storage[:, targets, :length] = storage[:, sources, :length]

    def write(self, layer: int, key: Tensor, value: Tensor) -> None:
        assert self._batch is not None
        self.pool.keys[layer].flatten(0, 1).index_copy_(0, self._batch.slots, key)
        self.pool.values[layer].flatten(0, 1).index_copy_(0, self._batch.slots, value)

    def attend(self, layer: int, query: Tensor, options: LayerOptions) -> Tensor:
        rows, heads, head_dim = query.shape
        plan = self._plan(options.window, heads, query.dtype)
        places = plan.depth * rows * heads
        outputs = query.new_empty((places, head_dim), dtype=torch.float32)
        weights = query.new_empty(places, dtype=torch.float32)
        # Places that no call fills weigh nothing, but must be finite: 0 x NaN is NaN.
        filled = plan.shallow * rows * heads
        outputs[filled:].zero_()
        weights[filled:].fill_(-torch.inf)
        flat = query.reshape(rows * heads, head_dim)
        for call in plan.calls:
            out, lse = self._partial(layer, flat, call, options)
            outputs.index_copy_(0, call.targets, out.reshape(-1, head_dim).float())
            weights.index_copy_(0, call.targets, lse.reshape(-1).float())
        merged = _merge(
            outputs.view(plan.depth, rows, heads, head_dim),
            weights.view(plan.depth, rows, heads),
            options.sinks,
        )
        return merged.to(query.dtype)

    def _partial(
        self, layer: int, query: Tensor, call: _Call, options: LayerOptions
    ) -> tuple[Tensor, Tensor]:
        """Results `[splits, kv_heads, n x group, head_dim]` and log-sum-exps without the last dimension."""
        keys, values = self._splits(layer, call)
        packed = query.index_select(0, call.queries).view(*call.shape, -1).expand(len(keys), -1, -1, -1)
        if options.soft_cap is None:
            out, lse = _fused(packed, keys, values, attn_mask=call.mask, scale=options.scale)
            return out, lse
        return _soft_capped(packed, keys, values, call.mask, options.scale, options.soft_cap)

    def _splits(self, layer: int, call: _Call) -> tuple[Tensor, Tensor]:
        """Keys and values `[splits, kv_heads, length, head_dim]`."""
        where = call.splits
        if isinstance(where, GatheredCall):
            return where.get(layer)
        keys, values = self.pool.keys[layer][where], self.pool.values[layer][where]
        shape = (-1, call.length, *keys.shape[2:])
        return keys.view(shape).transpose(1, 2), values.view(shape).transpose(1, 2)

    def _plan(self, window: int | None, heads: int, dtype: torch.dtype) -> _Plan:
        """The step's plan for layers of this window and number of heads; made by the first of them."""
        plan = self._plans.get((window, heads))
        if plan is None:
            assert self._batch is not None
            layout = self.pool.layout
            splits = plan_splits(
                self._batch.sequences, layout.block_size, self.pool.null_block, window=window
            )
            kept = self._kept.setdefault((window, heads), KeptSplits(self.pool))
            calls = [_spread(call, heads, layout.num_kv_heads, dtype, kept) for call in splits.calls]
            plan = self._plans[window, heads] = _Plan(calls, splits.depth, splits.shallow)
        return plan


def _spread(call: SplitCall, heads: int, kv_heads: int, dtype: torch.dtype, kept: KeptSplits) -> _Call:
    """Spread a call's rows over the heads, in the order in which they are multiplied."""
    group = heads // kv_heads
    batch, count = call.rows.shape
    head = np.arange(heads).reshape(1, kv_heads, 1, group)
    first = int(call.blocks[0, 0])
    mask = call.mask
    if mask is not None:
        mask = (mask.repeat_interleave(group, dim=2) if group > 1 else mask).to(dtype)
    return _Call(
        queries=torch.from_numpy((call.rows[:, None, :, None] * heads + head).ravel()),
        shape=(batch, kv_heads, count * group),
        splits=slice(first, first + call.blocks.size) if call.run else kept.gathered(call),
        length=call.length,
        mask=mask,
        targets=torch.from_numpy((call.targets[:, None, :, None] * heads + head).ravel()),
    )


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
    """Sum over the first dimension by halves of neighbours; an odd last one waits its turn."""
    while (count := terms.shape[0]) > 1:
        sums = terms[0 : count - 1 : 2] + terms[1:count:2]
        terms = torch.cat((sums, terms[-1:])) if count % 2 else sums
    return terms[0]
