"""What is done to an engine's copy of a model so that it runs well, and reproducibly, on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from radixcache.engine.cpu.activations import settle_activations
from radixcache.engine.cpu.fusion import fuse_projections
from radixcache.engine.cpu.gates import fuse_gates
from radixcache.engine.cpu.norms import fuse_norms
from radixcache.engine.cpu.products import Product, settle_products

__all__ = ["has_loose_weights", "prepare_for_cpu"]


def prepare_for_cpu(model: nn.Module, *, invariant: bool) -> None:
    """Join projections, fuse norms and MLPs, settle activations, pack weights; in place.

    Args:
        model: the engine's own, see `private_copy`.
        invariant: call products only with numbers of rows that change no bit.
    """
    threads = torch.get_num_threads()
    experts = getattr(model, "set_experts_implementation", None)
    if experts is not None and has_loose_weights(model):
        experts("eager")  # one product an expert; a grouped one knows no rule
    fuse_projections(model)
    fuse_norms(model)
    for width in _activation_widths(model.config.get_text_config(decoder=True)):  # type: ignore[union-attr, operator]
        settle_activations(model, width, threads)
    fuse_gates(model)
    settle_products(model, invariant=invariant)


def _activation_widths(config: Any) -> list[int]:
    """Widths that the model's activations may see, whatever its configuration calls them."""
    named = [value for name, value in vars(config).items() if "intermediate" in name or "ffn" in name]
    widths = [width for value in named for width in (value if isinstance(value, list) else [value])]
    return [width for width in widths if type(width) is int] or [4 * config.hidden_size]


def has_loose_weights(model: nn.Module) -> bool:
    """Whether the model multiplies by weights that are in no linear layer, as experts' are."""
    covered = (nn.Linear, nn.Embedding, Product)
    return any(
        parameter.dim() > 1
        for module in model.modules()
        if not isinstance(module, covered) and type(module).__name__ != "Conv1D"
        for parameter in module.parameters(recurse=False)
    )
