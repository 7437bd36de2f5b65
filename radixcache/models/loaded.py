"""What a loaded model is to the rest of the package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from radixcache.models.devices import with_index

if TYPE_CHECKING:
    import torch

EMBEDDED_MODEL = "smollm2-135m"
"""The name under which the embedded default model is loaded."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A causal language model in evaluation mode, ready to be served.

    Attributes:
        model: the transformers model, on `device`, in `dtype`.
        tokenizer: a transformers tokenizer, or None for a folder that holds none (token ids still work).
        name: the name or path that was asked for.
        fingerprint: hex digest of configuration, weights and dtype. Two models whose KV cache may be
            exchanged have the same one; it is part of a cache's namespace outside the process.
        eos_token_ids: ids that end a generation.
        max_context: the most tokens a sequence may hold.
        device: where the weights are; `cuda` becomes `cuda:0`.
        dtype: the dtype of weights and activations.
    """

    model: Any
    tokenizer: Any | None
    name: str
    fingerprint: str
    eos_token_ids: frozenset[int]
    max_context: int
    device: torch.device
    dtype: torch.dtype

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", with_index(self.device))
