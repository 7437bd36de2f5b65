"""Attention of rows over one split on a CPU, called so that a row's bits depend on that row alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from radixcache.numerics.memory import remembered, remembered_rule
from radixcache.numerics.rules import RowRule, find_rule
from radixcache_kernels.splits import SPLIT_TOKENS

# How much is read of a split that is not full yet. What lies beyond the last row is masked; masked positions
# add exact zeros, but a library may sum in another order at another length.
SPLIT_LENGTHS = (64, 128, 192, 256)

_fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default

# The kernel cuts rows in blocks of 32, 64 from 192 rows on, 256 from 768: a remainder of each is tried.
_COUNTS = (*range(1, 17), *range(20, 65, 4), 96, 128, 192, 208, 256, 384, 512, 768, 800, 1536, 4096)
_COMPARED, _MANY = 64, 1536
# In a half type; with fewer rows a call it is better to attend in float32.
_LEAST_WORTHWHILE = 16


class AttentionRule(NamedTuple):
    """How to call attention so that a row's bits depend on that row alone.

    Attributes:
        dtype: what to attend in.
        rows: numbers of rows; None if no rule was found or asked for.
        lengths: of a split that is not full, how much may be read; ascending, a whole split being the last.
    """

    dtype: torch.dtype
    rows: RowRule | None
    lengths: tuple[int, ...]

    def pieces(self, rows: int) -> list[int]:
        """Rows of the calls for `rows` that count."""
        return [rows] if self.rows is None else self.rows.pieces(rows)


def split_attention(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    *,
    scale: float,
    soft_cap: float | None,
    pieces: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Attend rows over splits, in calls of so many rows as `pieces` says.

    Args:
        query: `[splits, kv_heads, rows, head_dim]`, `rows` being the sum of `pieces`.
        keys, values: `[splits, kv_heads, length, head_dim]`.
        mask: additive `[splits, 1, rows, length]`, or None.
        scale: factor on the scores.
        soft_cap: scores become cap x tanh(score / cap).
        pieces: rows of each call, all rows together: `AttentionRule.pieces`.

    Returns:
        `[splits, kv_heads, rows, head_dim]` and their log-sum-exps `[splits, kv_heads, rows]`.
    """
    if len(pieces) == 1:
        return _attend(query, keys, values, mask, scale, soft_cap)
    queries = query.split_with_sizes(pieces, 2)
    masks = [None] * len(pieces) if mask is None else mask.split_with_sizes(pieces, 2)
    parts = [
        _attend(part, keys, values, hidden, scale, soft_cap)
        for part, hidden in zip(queries, masks, strict=True)
    ]
    return torch.cat([out for out, _ in parts], 2), torch.cat([lse for _, lse in parts], 2)


def attention_rule(head_dim: int, dtype: torch.dtype, *, soft_capped: bool) -> AttentionRule:
    """How to attend here so that rows stay independent; found by trial once on a machine.

    In a half type if a rule with a good number of rows a call is found for it, else in float32.
    """
    rule = _rule_in(head_dim, dtype, soft_capped)
    if dtype != torch.float32 and (rule.rows is None or rule.rows.most < _LEAST_WORTHWHILE):
        return _rule_in(head_dim, torch.float32, soft_capped)
    return rule


def _rule_in(head_dim: int, dtype: torch.dtype, soft_capped: bool) -> AttentionRule:
    trial = _Trial(head_dim, dtype, soft_capped)
    name = f"{'soft-capped ' if soft_capped else ''}attention {head_dim} {dtype}"
    rows = remembered_rule(f"{name}, rows", trial.find_rows)
    if rows is None:
        return AttentionRule(dtype, None, SPLIT_LENGTHS)
    lengths = remembered(f"{name}, lengths", lambda: trial.find_lengths(rows), _are_lengths)
    if SPLIT_TOKENS not in lengths:
        return AttentionRule(dtype, None, SPLIT_LENGTHS)
    if dtype != torch.float32:
        # Kernels may compute in float32 what they round to a half type, which hides most differences.
        wide = _rule_in(head_dim, torch.float32, soft_capped).lengths
        lengths = [length for length in lengths if length in wide]
    return AttentionRule(dtype, rows, tuple(lengths))


def _are_lengths(kept: Any) -> bool:
    return isinstance(kept, list) and set(kept) <= set(SPLIT_LENGTHS) and kept == sorted(kept)


def _attend(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float, soft_cap: float | None
) -> tuple[Tensor, Tensor]:
    if soft_cap is not None:
        return _soft_capped(query, keys, values, mask, scale, soft_cap)
    out, lse = _fused(query, keys, values, attn_mask=mask, scale=scale)
    return out, lse


def _soft_capped(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float, cap: float
) -> tuple[Tensor, Tensor]:
    """Attention with capped scores, which the fused kernel does not know, in float32."""
    scores = torch.matmul(query.float(), keys.float().transpose(-1, -2))
    scores = torch.tanh(scores * (scale / cap)) * cap
    if mask is not None:
        scores = scores + mask.float()
    top = scores.amax(-1, keepdim=True)
    weights = torch.exp(scores - top)
    total = weights.sum(-1, keepdim=True)
    out = torch.matmul(weights, values.float()) / total
    return out.contiguous(), (top + torch.log(total)).squeeze(-1)


class _Trial:
    """Rows at every position of a split, attended in different company.

    Keys come in equal pairs and values in opposite ones, so what is left of a row that sees whole pairs is
    rounding, and another order of summing shows.
    """

    def __init__(self, head_dim: int, dtype: torch.dtype, soft_capped: bool) -> None:
        self._head_dim, self._dtype = head_dim, dtype
        self._cap = 30.0 if soft_capped else None

    def _inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        rows, width, half = max(_COUNTS) + 8 * _COMPARED, self._head_dim, SPLIT_TOKENS // 2
        query = torch.randn(1, 1, rows, width, generator=generator, dtype=torch.float32)
        places = torch.randperm(SPLIT_TOKENS, generator=generator)
        keys, values = torch.empty(2, 1, 1, SPLIT_TOKENS, width, dtype=torch.float32)
        same = torch.randn(half, width, generator=generator, dtype=torch.float32)
        opposite = 30 * torch.randn(half, width, generator=generator, dtype=torch.float32)
        keys[..., places[:half], :] = keys[..., places[half:], :] = same
        values[..., places[:half], :], values[..., places[half:], :] = opposite, -opposite
        positions = torch.randint(0, SPLIT_TOKENS, (rows,), generator=generator)
        return query.to(self._dtype), keys.to(self._dtype), values.to(self._dtype), positions

    @torch.inference_mode()
    def find_rows(self) -> RowRule | None:
        """Numbers of rows, over a whole split of which each row sees a part."""
        query, keys, values, positions = self._inputs()

        def call(first: int, count: int) -> tuple[Tensor, Tensor]:
            stop = first + count
            return self._attend(query[:, :, first:stop], keys, values, positions[first:stop])

        # Rounding to a half type hides most differences: more rows are needed to see one.
        return find_rule(call, _COUNTS, _COMPARED if self._dtype == torch.float32 else 8 * _COMPARED)

    @torch.inference_mode()
    def find_lengths(self, rule: RowRule) -> list[int]:
        """Lengths at which rows that see no more come out as over a whole split, the split itself among them.

        It is not if a mask of zeros makes a difference: then no two rows are sure to be treated alike.
        """
        query, keys, values, positions = self._inputs()
        agreeing = []
        for length in SPLIT_LENGTHS:
            for count in (rule.least, rule.pieces(_COMPARED)[0], rule.pieces(_MANY)[0]):
                query_part, seen = query[:, :, :count], positions[:count] % length
                if length == SPLIT_TOKENS:
                    seen = torch.full((count,), SPLIT_TOKENS - 1)
                    shorter = self._attend(query_part, keys, values, None)
                else:
                    shorter = self._attend(query_part, keys[:, :, :length], values[:, :, :length], seen)
                whole = self._attend(query_part, keys, values, seen)
                if not all(torch.equal(a, b) for a, b in zip(shorter, whole, strict=True)):
                    break
            else:
                agreeing.append(length)
        return agreeing

    def _attend(
        self, query: Tensor, keys: Tensor, values: Tensor, seen: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        mask = None
        if seen is not None:
            hidden = torch.arange(keys.shape[2]) > seen[:, None]
            mask = torch.zeros(1, 1, *hidden.shape, dtype=self._dtype).masked_fill_(hidden, -torch.inf)
        out, lse = _attend(query, keys, values, mask, self._head_dim**-0.5, self._cap)
        return out[0, 0], lse[0, 0]
