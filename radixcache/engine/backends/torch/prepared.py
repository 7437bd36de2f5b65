"""The calls of a step made ready for the heads of a kind of layer: every view made once.

Rows are laid out head group by head group, as "head rows" `[kv_heads, rows x group]`: a row for each query
head. So the heads that share a key/value head are rows of one product with it, and a range of rows is a range
of head rows. The query and the partial results have one buffer a step that all layers use in turn.
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
from radixcache.numerics.attention import AttentionRule

KeysAndValues = Callable[[int], tuple[Tensor, Tensor]]


class MergeViews(NamedTuple):
    """A call's part of each merge buffer: `[splits or rows_batch, kv_heads, head rows(, head_dim)]`."""

    outputs: Tensor
    lse: Tensor
    weights: Tensor


class PreparedCall(NamedTuple):
    """A `SplitCall` as tensors.

    Attributes:
        query: `[splits, kv_heads, padded, head_dim]`, a view of the query buffer; or None.
        head_rows: int64, those to take from the buffer where no view of it serves.
        shape: `[rows_batch, padded]` of those head rows.
        width: n x group, the rows that count; those after them are padding.
        pieces: rows of each call of the kernel, padding included.
        splits: layer -> keys and values, each `[splits, kv_heads, length, head_dim]`.
        mask: additive `[splits, 1, padded, length]` in the query's dtype, or None.
        places: views of the merge buffers, or int64 places in the flat ones where no view serves.
    """

    query: Tensor | None
    head_rows: Tensor | None
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
        query: `[kv_heads, rows x group, head_dim]`, to be filled by each layer; spare head rows follow it.
        outputs, lse, weights: merge buffers `[depth, kv_heads x rows x group(, head_dim)]`, float32:
            weighted partial results, log-sum-exps and what these weigh. Places that no call fills are zero
            and weigh nothing.
        kv_heads: key/value heads of the layers.
        group: query heads a key/value head.
    """

    def __init__(self, plan: SplitPlan, kept: KeptSplits, rows: int, heads: int, rule: AttentionRule) -> None:
        layers = kept.pool.layout.groups[kept.group]
        kv_heads, head_dim = layers.num_kv_heads, layers.head_dim
        self.kv_heads, self.group = kv_heads, heads // kv_heads
        self._rows = rows
        head_rows = kv_heads * rows * self.group
        self.rule = rule
        widths = {call.rows.shape[1] * self.group for call in plan.calls}
        spare = max((sum(rule.pieces(width)) - width for width in widths), default=0)
        self._queries = torch.empty((kv_heads, rows * self.group + spare, head_dim), dtype=rule.dtype)
        self._queries[:, rows * self.group :].zero_()
        self.query = self._queries[:, : rows * self.group]
        self.outputs = torch.empty((plan.depth, head_rows, head_dim), dtype=torch.float32)
        self.lse = torch.empty((plan.depth, head_rows), dtype=torch.float32)
        self.weights = torch.empty((plan.depth, head_rows), dtype=torch.float32)
        self.outputs[plan.shallow :].zero_()
        self.lse[plan.shallow :].fill_(-torch.inf)
        self.calls = [self._prepare(call, kept) for call in plan.calls]

    def _prepare(self, call: SplitCall, kept: KeptSplits) -> PreparedCall:
        batch, count = call.rows.shape
        splits, width = len(call.blocks), count * self.group
        pieces = self.rule.pieces(width)
        padded = sum(pieces)
        span = _span(call.rows.ravel())
        query = head_rows = None
        if span is None:
            each = (call.rows[..., None] * self.group + np.arange(self.group)).reshape(batch, width)
            head_rows = torch.from_numpy(np.pad(each, ((0, 0), (0, padded - width))).ravel())
        else:
            # A call is filled up with the head rows that follow, whatever they hold.
            heads, _, head_dim = self._queries.shape
            step = self._queries.stride(0)
            query = self._queries.as_strided(
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
            head_rows,
            (batch, padded),
            width,
            pieces,
            self._splits(call, kept),
            mask,
            self._places(call, span),
        )

    def _places(self, call: SplitCall, span: slice | None) -> MergeViews | Tensor:
        """Views of the merge buffers that take a call's results in their order, or else indices."""
        kv_heads, group, rows = self.kv_heads, self.group, self._rows
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
        block = (depths * kv_heads)[:, None, :] + np.arange(kv_heads)[:, None]
        places = (block * rows + row[:, None, :])[..., None] * group + np.arange(group)
        return torch.from_numpy(places.ravel())

    def _splits(self, call: SplitCall, kept: KeptSplits) -> KeysAndValues:
        layout = kept.pool.layout
        if not (call.run and layout.groups[kept.group].readable):
            return kept.gathered(call).get
        first = int(call.blocks[0, 0])
        here = slice(first, first + call.blocks.size)
        tensors = kept.pool.groups[kept.group]
        keys, values = (
            stored[:, here].view(len(stored), -1, call.length, *stored.shape[3:]).transpose(2, 3).unbind(0)
            for stored in (tensors.keys, tensors.values)
        )

        def in_place(layer: int) -> tuple[Tensor, Tensor]:
            place = layout.places[layer].layer
            return keys[place], values[place]

        return in_place


def _span(index: IntArray) -> slice | None:
    """The range that an index array counts through, if it does."""
    first = int(index[0])
    if (index == np.arange(first, first + len(index))).all():
        return slice(first, first + len(index))
    return None
