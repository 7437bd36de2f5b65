"""Attention on a CPU: torch's fused kernel over gathered splits, merged in a fixed order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from radixcache.cache.lease import BlockCopy
from radixcache.engine.backends.base import Backend, LayerOptions
from radixcache.engine.backends.torch.kept import KeptSplits
from radixcache.engine.backends.torch.merge import merge
from radixcache.engine.backends.torch.prepared import PreparedCall, PreparedPlan
from radixcache.engine.backends.torch.split_plan import plan_splits
from radixcache.engine.step import StepBatch
from radixcache.kv.pool import PagedPool
from radixcache.numerics.attention import SPLIT_LENGTHS, AttentionRule, attention_rule, split_attention


class _LayerKind(NamedTuple):
    """What a plan depends on besides the batch: layers of one kind share it."""

    window: int | None
    heads: int
    dtype: torch.dtype
    soft_capped: bool


class TorchBackend(Backend):
    """Gathers each split from the pool and attends all rows that meet it in one go."""

    has_row_rules = True

    def __init__(self, pool: PagedPool) -> None:
        super().__init__(pool)
        self._batch: StepBatch | None = None
        self._rules: dict[_LayerKind, AttentionRule] = {}
        self._plans: dict[_LayerKind, PreparedPlan] = {}
        self._kept: dict[_LayerKind, KeptSplits] = {}

    def clear(self, blocks: Sequence[int]) -> None:
        super().clear(blocks)
        self._renewed(blocks)

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
        self._renewed([item.target for item in copies])

    def write(self, layer: int, key: Tensor, value: Tensor) -> None:
        assert self._batch is not None
        self.pool.write(layer, self._batch.slots, key, value)

    def attend(self, layer: int, query: Tensor, options: LayerOptions) -> Tensor:
        rows, heads, head_dim = query.shape
        kind = _LayerKind(options.window, heads, query.dtype, options.soft_cap is not None)
        plan = self._plan(kind)
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

    def _renewed(self, blocks: Sequence[int]) -> None:
        """These blocks hold something else now: what was gathered from them is stale."""
        for kept in self._kept.values():
            kept.forget(blocks)

    def _attend_splits(
        self, plan: PreparedPlan, call: PreparedCall, layer: int, options: LayerOptions
    ) -> Tensor:
        """Attend a call's rows over its splits; what the results weigh is put in its place."""
        keys, values = call.splits(layer)
        if keys.dtype != plan.rule.dtype:
            keys, values = keys.to(plan.rule.dtype), values.to(plan.rule.dtype)
        query = call.query
        if query is None:
            assert call.lines is not None
            query = plan.query.index_select(1, call.lines)
            query = query.view(len(query), *call.shape, -1).transpose(0, 1)
            query = query.expand(len(keys), -1, -1, -1)
        out, lse = split_attention(
            query,
            keys,
            values,
            call.mask,
            scale=options.scale,
            soft_cap=options.soft_cap,
            pieces=call.pieces,
        )
        out, lse = out[:, :, : call.width], lse[:, :, : call.width]
        if isinstance(call.places, Tensor):
            plan.lse.flatten().index_copy_(0, call.places, lse.reshape(-1).float())
        else:
            call.places.lse.copy_(lse)
        return out

    def _plan(self, kind: _LayerKind) -> PreparedPlan:
        """The step's plan for layers of a kind; made by the first of them."""
        plan = self._plans.get(kind)
        if plan is None:
            assert self._batch is not None
            rule = self._rules.get(kind)
            if rule is None:
                rule = self._rules[kind] = self._rule(kind)
            splits = plan_splits(
                self._batch.sequences,
                self.pool.layout.block_size,
                self.pool.null_block,
                window=kind.window,
                lengths=rule.lengths,
            )
            kept = self._kept.setdefault(kind, KeptSplits(self.pool))
            plan = self._plans[kind] = PreparedPlan(
                splits, self.pool, kept, self._batch.num_rows, kind.heads, rule
            )
        return plan

    def _rule(self, kind: _LayerKind) -> AttentionRule:
        if not self.invariant:
            return AttentionRule(kind.dtype, None, SPLIT_LENGTHS)
        return attention_rule(self.pool.layout.head_dim, kind.dtype, soft_capped=kind.soft_capped)
