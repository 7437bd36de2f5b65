"""A Llama of a published shape with random weights: speed does not depend on what they are."""

from __future__ import annotations

from typing import Any

import torch

from radixcache.models import LoadedModel
from radixcache.models.traits import fingerprint

# hidden, intermediate, layers, query heads, key/value heads, vocabulary
SHAPES = {
    "tiny": (256, 512, 2, 4, 2, 1024),
    "1b": (2048, 8192, 16, 32, 8, 128256),
    "3b": (3072, 8192, 28, 24, 8, 128256),
    "8b": (4096, 14336, 32, 32, 8, 128256),
}


def random_model(shape: str, device: torch.device, dtype: torch.dtype, context: int) -> LoadedModel:
    """A Llama of this shape with random weights, made on the device, for at least `context` tokens."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    hidden, intermediate, layers, heads, kv_heads, vocabulary = SHAPES[shape]
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=max(8192, context),
        tie_word_embeddings=shape in ("1b", "3b"),
        bos_token_id=0,
        eos_token_id=1,
    )
    auto: Any = AutoModelForCausalLM
    with device:
        model = auto.from_config(config, dtype=dtype)
    model.eval().requires_grad_(False)
    return LoadedModel(
        model=model,
        tokenizer=None,
        name=f"random-llama-{shape}",
        fingerprint=fingerprint(model, dtype),
        eos_token_ids=frozenset({1}),
        max_context=config.max_position_embeddings,
        device=device,
        dtype=dtype,
    )


def device_label(device: torch.device) -> str:
    """A device's name as its driver tells it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
