"""Attention on a CPU: torch's fused kernel over gathered splits, merged in a fixed order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from radixcache.cache.lease import BlockCopy
from radixcache.engine.backends.base import Backend, LayerOptions
from radixcache.engine.backends.tables import StepTables, step_tables
from radixcache.engine.backends.torch.kept import KeptSplits
from radixcache.engine.backends.torch.merge import merge
from radixcache.engine.backends.torch.prepared import PreparedCall, PreparedPlan
from radixcache.engine.backends.torch.split_plan import SplitPlan, SplitPlanner
from radixcache.engine.step import StepBatch
from radixcache.kv.pool import PagedPool
from radixcache.numerics.attention import SPLIT_LENGTHS, AttentionRule, attention_rule, split_attention
from radixcache_kernels.splits import SplitRule


class _LayerKind(NamedTuple):
    """What a plan depends on besides the batch: layers of one kind share it.

    Attributes:
        group: number of the layers' group in the layout.
        window: sliding window.
        heads: query heads.
        dtype: of the query.
        soft_capped: scores are capped.
    """

    group: int
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
        self._tables: StepTables | None = None
        self._splits: dict[tuple[int | None, tuple[int, ...]], SplitPlan] = {}
        self._planners: dict[tuple[int | None, tuple[int, ...]], SplitPlanner] = {}
        self._rules: dict[_LayerKind, AttentionRule] = {}
        self._plans: dict[_LayerKind, PreparedPlan] = {}
        self._kept: dict[_LayerKind, KeptSplits] = {}

    def renewed(self, blocks: Iterable[int]) -> None:
        stale = set(blocks)
        for kept in self._kept.values():
            kept.forget(stale)

    def close(self) -> None:
        self._batch = self._tables = None
        self._splits.clear()
        self._planners.clear()
        self._plans.clear()
        self._kept.clear()

    def begin(self, batch: StepBatch) -> None:
        self._batch, self._tables = batch, None
        self._splits.clear()
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
        self.renewed([item.target for item in copies])

    def write(self, layer: int, key: Tensor, value: Tensor) -> None:
        assert self._batch is not None
        self.pool.write(layer, self._batch.slots, key, value)

    def attend(self, layer: int, query: Tensor, options: LayerOptions) -> Tensor:
        rows, heads, head_dim = query.shape
        place = self.pool.layout.places[layer]
        kind = _LayerKind(place.group, options.window, heads, query.dtype, options.soft_cap is not None)
        plan = self._plan(kind)
        kv_heads, group = plan.kv_heads, plan.group
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
        if keys.dtype != plan.rule.dtype:
            keys, values = keys.to(plan.rule.dtype), values.to(plan.rule.dtype)
        query = call.query
        if query is None:
            assert call.head_rows is not None
            query = plan.query.index_select(1, call.head_rows)
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
            splits = self._plan_splits(kind.window, rule.lengths)
            kept = self._kept.setdefault(kind, KeptSplits(self.pool, kind.group))
            plan = self._plans[kind] = PreparedPlan(splits, kept, self._batch.num_rows, kind.heads, rule)
        return plan

    def _plan_splits(self, window: int | None, lengths: tuple[int, ...]) -> SplitPlan:
        """The step's calls for layers with this window; made for the first of them."""
        found = self._splits.get((window, lengths))
        if found is None:
            assert self._batch is not None
            rule = SplitRule(block_size=self.pool.layout.block_size, window=window)
            if self._tables is None:
                each = rule.split // rule.block_size
                width = -(-self._batch.table_width // each) * each
                self._tables = step_tables(self._batch, self.pool.null_block, width)
            planner = self._planners.setdefault((window, lengths), SplitPlanner(rule, lengths))
            found = self._splits[window, lengths] = planner.plan(self._tables)
        return found

    def _rule(self, kind: _LayerKind) -> AttentionRule:
        if not self.invariant:
            return AttentionRule(kind.dtype, None, SPLIT_LENGTHS)
        head_dim = self.pool.layout.groups[kind.group].head_dim
        return attention_rule(head_dim, kind.dtype, soft_capped=kind.soft_capped)
