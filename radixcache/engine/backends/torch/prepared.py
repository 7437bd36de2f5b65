"""The calls of a step made ready for the heads of a kind of layer: every view made once.

Rows are laid out head group by head group, `[kv_heads, rows x group]` "lines", so that the heads
which share a key/value head are rows of one product with it, and a range of rows is a range of
lines. The query and the partial results have one buffer a step that all layers use in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from radixcache.engine.backends.torch.kept import KeptSplits
from radixcache.engine.backends.torch.split_plan import IntArray, SplitCall, SplitPlan
from radixcache.kv.pool import PagedPool
from radixcache.numerics.attention import AttentionRule

KeysAndValues = Callable[[int], tuple[Tensor, Tensor]]


class MergeViews(NamedTuple):
    """A call's part of each merge buffer: `[splits or rows_batch, kv_heads, lines(, head_dim)]`."""

    outputs: Tensor
    lse: Tensor
    weights: Tensor


class PreparedCall(NamedTuple):
    """A `SplitCall` as tensors.

    Attributes:
        query: `[splits, kv_heads, padded, head_dim]`, a view of the query buffer; or None.
        lines: int64, the lines to take from the buffer where no view of it serves.
        shape: `[rows_batch, padded]` of those lines.
        width: n x group, the rows that count; those after them are padding.
        pieces: rows of each call of the kernel, padding included.
        splits: layer -> keys and values, each `[splits, kv_heads, length, head_dim]`.
        mask: additive `[splits, 1, padded, length]` in the query's dtype, or None.
        places: views of the merge buffers, or int64 places in the flat ones where no view serves.
    """

    query: Tensor | None
    lines: Tensor | None
    shape: tuple[int, int]
    width: int
    pieces: list[int]
    splits: KeysAndValues
    mask: Tensor | None
    places: MergeViews | Tensor


class PreparedPlan:
    """A `SplitPlan` for a number of heads.

    Attributes:
        calls: each fills its places of the merge buffers.
        query: `[kv_heads, rows x group, head_dim]`, to be filled by each layer; lines to spare follow it.
        outputs, lse, weights: merge buffers `[depth, kv_heads x rows x group(, head_dim)]`, float32:
            weighted partial results, log-sum-exps and what these weigh. Places that no call fills are zero
            and weigh nothing.
        group: query heads a key/value head.
    """

    def __init__(
        self, plan: SplitPlan, pool: PagedPool, kept: KeptSplits, rows: int, heads: int, rule: AttentionRule
    ) -> None:
        kv_heads, head_dim = pool.layout.num_kv_heads, pool.layout.head_dim
        self.group = heads // kv_heads
        self._pool = pool
        self._rows = rows
        lines = kv_heads * rows * self.group
        self.rule = rule
        widths = {call.rows.shape[1] * self.group for call in plan.calls}
        spare = max((sum(rule.pieces(width)) - width for width in widths), default=0)
        self._lines = torch.empty((kv_heads, rows * self.group + spare, head_dim), dtype=rule.dtype)
        self._lines[:, rows * self.group :].zero_()
        self.query = self._lines[:, : rows * self.group]
        self.outputs = torch.empty((plan.depth, lines, head_dim), dtype=torch.float32)
        self.lse = torch.empty((plan.depth, lines), dtype=torch.float32)
        self.weights = torch.empty((plan.depth, lines), dtype=torch.float32)
        self.outputs[plan.shallow :].zero_()
        self.lse[plan.shallow :].fill_(-torch.inf)
        self.calls = [self._prepare(call, kept) for call in plan.calls]

    def _prepare(self, call: SplitCall, kept: KeptSplits) -> PreparedCall:
        batch, count = call.rows.shape
        splits, width = len(call.blocks), count * self.group
        pieces = self.rule.pieces(width)
        padded = sum(pieces)
        span = _span(call.rows.ravel())
        query = lines = None
        if span is None:
            each = (call.rows[..., None] * self.group + np.arange(self.group)).reshape(batch, width)
            lines = torch.from_numpy(np.pad(each, ((0, 0), (0, padded - width))).ravel())
        else:
            # What a call is filled up with are the lines after its own, whatever they hold.
            heads, _, head_dim = self._lines.shape
            step = self._lines.stride(0)
            query = self._lines.as_strided(
                (batch, heads, padded, head_dim),
                (width * head_dim, step, head_dim, 1),
                span.start * self.group * head_dim,
            ).expand(splits, -1, -1, -1)
        mask = call.mask
        if mask is not None:
            mask = mask.repeat_interleave(self.group, dim=2).to(self.query.dtype)
            mask = F.pad(mask, (0, 0, 0, padded - width))
        return PreparedCall(
            query,
            lines,
            (batch, padded),
            width,
            pieces,
            self._splits(call, kept),
            mask,
            self._places(call, span),
        )

    def _places(self, call: SplitCall, span: slice | None) -> MergeViews | Tensor:
        """Views of the merge buffers that take a call's results in their order, or else indices."""
        kv_heads, group, rows = self._pool.layout.num_kv_heads, self.group, self._rows
        depths = call.targets // rows
        if span is not None and (depths == depths[:, :1]).all():
            steps = depths[:, 0]
            left, right = span.start * group, span.stop * group
            shape = (len(self.lse), kv_heads, rows * group)
            buffers = [
                buffer.view(*shape, *buffer.shape[2:])[:, :, left:right]
                for buffer in (self.outputs, self.lse, self.weights)
            ]
            first = int(steps[0])
            if call.rows.shape[0] == 1 and _span(steps) is not None:
                here = slice(first, first + len(steps))
                return MergeViews(*(buffer[here] for buffer in buffers))
            if call.rows.shape[0] == len(steps) and (steps == first).all():
                apart = (kv_heads, len(steps), call.rows.shape[1] * group)
                return MergeViews(
                    *(buffer[first].view(*apart, *buffer.shape[3:]).transpose(0, 1) for buffer in buffers)
                )
        row = np.broadcast_to(call.rows, call.targets.shape)
        line = (depths * kv_heads)[:, None, :] + np.arange(kv_heads)[:, None]
        places = (line * rows + row[:, None, :])[..., None] * group + np.arange(group)
        return torch.from_numpy(places.ravel())

    def _splits(self, call: SplitCall, kept: KeptSplits) -> KeysAndValues:
        if not (call.run and self._pool.layout.readable):
            return kept.gathered(call).get
        first = int(call.blocks[0, 0])
        here = slice(first, first + call.blocks.size)
        layers = [
            storage[:, here].view(len(storage), -1, call.length, *storage.shape[3:]).transpose(2, 3).unbind(0)
            for storage in (self._pool.key_storage, self._pool.value_storage)
        ]
        return list(zip(*layers, strict=True)).__getitem__


def _span(index: IntArray) -> slice | None:
    """The range that an index array counts through, if it does."""
    first = int(index[0])
    if (index == np.arange(first, first + len(index))).all():
        return slice(first, first + len(index))
    return None
