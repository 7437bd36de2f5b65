"""torch's own attention on the same inputs: scaled_dot_product_attention and flex_attention.

Neither reads a paged pool: both get keys and values gathered into one contiguous tensor beforehand, untimed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from benchmarks.kernels.inputs import Copy, Inputs

Attend = Callable[[], Tensor]


class NotTakenError(Exception):
    """The peer cannot take the case; says why."""


def peer_call(peer: str, inputs: Inputs, copy: Copy) -> Attend:
    """A call of the peer that gives `[S, heads, new tokens, head_dim]`.

    Raises:
        NotTakenError: it has no way to compute this case.
    """
    return {"sdpa": _sdpa, "flex": _flex}[peer](inputs, copy)


def in_our_order(out: Tensor, inputs: Inputs) -> Tensor:
    """A peer's result as `[S x new tokens, heads, head_dim]`."""
    return out.transpose(1, 2).reshape(-1, inputs.shape.heads, inputs.shape.head_dim)


def _batch(inputs: Inputs, copy: Copy) -> tuple[Tensor, Tensor, Tensor]:
    query = inputs.query.view(len(inputs.lengths), inputs.case.new_tokens, *inputs.query.shape[1:])
    return query.transpose(1, 2).contiguous(), *inputs.gathered(copy)


def _sdpa(inputs: Inputs, copy: Copy) -> Attend:
    if inputs.lengths.min() != inputs.lengths.max():
        raise NotTakenError("takes no sequences of different lengths without a mask in memory")
    query, keys, values = _batch(inputs, copy)
    causal: Any = causal_lower_right(query.shape[2], keys.shape[2]) if inputs.case.new_tokens > 1 else None

    def grouped() -> Tensor:
        return F.scaled_dot_product_attention(
            query, keys, values, attn_mask=causal, scale=inputs.scale, enable_gqa=True
        )

    try:
        grouped()
    except (RuntimeError, TypeError):
        if causal is None:
            raise
    else:
        return grouped
    # Its lower-right mask may know no groups; then it gets a key and value for every query head.
    group = inputs.shape.heads // inputs.shape.kv_heads
    keys, values = (part.repeat_interleave(group, dim=1) for part in (keys, values))
    return lambda: F.scaled_dot_product_attention(query, keys, values, attn_mask=causal, scale=inputs.scale)


def _flex(inputs: Inputs, copy: Copy) -> Attend:
    query, keys, values = _batch(inputs, copy)
    lengths, new_tokens = inputs.seq_lens, inputs.case.new_tokens

    def seen(batch: Tensor, _head: Tensor, row: Tensor, key: Tensor) -> Tensor:
        return key <= lengths[batch] - new_tokens + row

    compiled = query.device.type == "cuda"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mask = create_block_mask(
            seen, len(lengths), None, new_tokens, keys.shape[2], device=query.device, _compile=compiled
        )
    attend: Any = torch.compile(flex_attention, dynamic=False) if compiled else flex_attention

    def call() -> Tensor:
        out: Tensor = attend(query, keys, values, block_mask=mask, scale=inputs.scale, enable_gqa=True)
        return out

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        call()
    return call
