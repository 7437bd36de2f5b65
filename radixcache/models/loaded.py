"""What a loaded model is to the rest of the package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from radixcache.errors import ModelError
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

    @classmethod
    def of(cls, model: Any, tokenizer: Any | None = None, *, name: str | None = None) -> LoadedModel:
        """A transformers model that is in memory already, to be served as it is.

        Args:
            model: a causal language model of transformers, all of it on one device, in float32, float16 or
                bfloat16. It is put into evaluation mode and is not changed otherwise.
            tokenizer: its tokenizer, if text is to be served and not token ids alone.
            name: what messages call the model, by default the name that it was loaded by.

        Raises:
            TypeError: `model` is no transformers model.
            ModelError: it cannot be served; names the model and the reason.
        """
        from transformers import PreTrainedModel

        from radixcache.models.dtypes import DTYPES
        from radixcache.models.traits import check_class, eos_token_ids, fingerprint, max_context

        if not isinstance(model, PreTrainedModel):
            raise TypeError(f"model must be a transformers model, got {type(model).__name__}")
        name = name or model.config.name_or_path or type(model).__name__
        check_class(type(model), model.config, name)
        devices = {weight.device for weight in model.parameters()}
        if len(devices) != 1 or "meta" in {device.type for device in devices}:
            places = ", ".join(sorted(map(str, devices)))
            raise ModelError(f"{name}: its weights must be on one device, they are on {places}")
        if model.dtype not in DTYPES.values():
            raise ModelError(f"{name}: its dtype must be one of {', '.join(DTYPES)}, got {model.dtype}")
        served: Any = model.eval()  # type: ignore[no-untyped-call]
        return cls(
            model=served,
            tokenizer=tokenizer,
            name=name,
            fingerprint=fingerprint(model, model.dtype),
            eos_token_ids=eos_token_ids(model, tokenizer),
            max_context=max_context(model.config, name),
            device=devices.pop(),
            dtype=model.dtype,
        )
