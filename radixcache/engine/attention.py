"""The one attention function that transformers' models call.

The step in hand reaches it through a context variable, not through the model's keyword
arguments: StableLM and GPT-BigCode, for two, drop those they do not know.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from torch import Tensor, nn
from transformers import AttentionInterface

from radixcache.engine.backends import Backend, LayerOptions
from radixcache.engine.step import StepBatch
from radixcache.errors import ModelError

ATTENTION_NAME = "radixcache"
BIDIRECTIONAL = "is bidirectional: a token sees later ones"


class _Step(NamedTuple):
    batch: StepBatch
    backend: Backend


_current: ContextVar[_Step] = ContextVar("radixcache_step")


@contextmanager
def active_step(batch: StepBatch, backend: Backend) -> Iterator[None]:
    """Make `batch`, which the backend has begun, the step that attention calls inside the block belong to."""
    token = _current.set(_Step(batch, backend))
    try:
        yield
    finally:
        _current.reset(token)


def paged_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001 - part of transformers' signature
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Write the step's keys and values to the pool and attend over block tables.

    Args:
        module: the attention module; its `layer_idx` names the layer.
        query: `[1, heads, rows, head_dim]`.
        key, value: `[1, kv_heads, rows, head_dim]` of the new tokens alone.
        scaling: factor on the scores, 1/sqrt(head_dim) by default.
        sliding_window, softcap, s_aux: as models name window, soft-cap and sinks.

    Returns:
        `[1, rows, heads, head_dim]` and no weights.

    Raises:
        ModelError: the module lets tokens see later ones, or does not say which layer it is in.
    """
    batch, backend = _current.get()
    rows, head_dim = batch.num_rows, query.shape[-1]
    if not getattr(module, "is_causal", True):
        raise ModelError(BIDIRECTIONAL)
    layer = getattr(module, "layer_idx", None)
    if not isinstance(layer, int):
        raise ModelError(f"does not say which layer its {type(module).__name__} is in")
    backend.write(layer, key[0, :, :rows].transpose(0, 1), value[0, :, :rows].transpose(0, 1))
    options = LayerOptions(
        scale=head_dim**-0.5 if scaling is None else float(scaling),
        window=sliding_window,
        soft_cap=softcap,
        sinks=s_aux,
    )
    out = backend.attend(layer, query[0, :, :rows].transpose(0, 1), options)
    if rows < query.shape[2]:
        padded = out.new_zeros(query.shape[2], *out.shape[1:])
        padded[:rows] = out
        out = padded
    return out.unsqueeze(0), None


def register() -> None:
    """Make `attn_implementation="radixcache"` known to transformers. Idempotent.

    Block tables say who sees what. For an attention without a function of its own that makes masks,
    transformers makes none; with one it would first ask the device whether the row of tokens is several
    sequences, and wait for the answer.
    """
    AttentionInterface.register(ATTENTION_NAME, paged_attention_forward)
