"""What is done to a model once so that it runs well, and reproducibly, on a CPU."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import nn

from radixcache.blas import request_reproducible_blas
from radixcache.engine.activations import settle_activations
from radixcache.engine.fusion import fuse_projections
from radixcache.engine.gates import fuse_gates
from radixcache.engine.invariance import row_multiple
from radixcache.engine.norms import fuse_norms
from radixcache.engine.products import pack_products

_prepared: WeakKeyDictionary[nn.Module, int | None] = WeakKeyDictionary()


def prepare_for_cpu(model: nn.Module) -> int | None:
    """Join projections, fuse norms and MLPs, settle activations and pack weights; done once a model.

    Returns:
        What `row_multiple` finds for the outcome.
    """
    if model not in _prepared:
        text = model.config.get_text_config(decoder=True)  # type: ignore[union-attr, operator]
        width = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
        request_reproducible_blas()
        fuse_projections(model)
        fuse_norms(model)
        settle_activations(model, width, torch.get_num_threads())
        fuse_gates(model)
        pack_products(model)
        _prepared[model] = row_multiple(model)
    return _prepared[model]
