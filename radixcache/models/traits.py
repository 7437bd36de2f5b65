"""What a configuration says about serving its model: whether it can be, how long, where it ends."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import torch
import xxhash

from radixcache.errors import ModelError

_LAYER_TYPES = frozenset({"full_attention", "sliding_attention"})
_LENGTH_DEPENDENT_ROPE = frozenset({"dynamic", "longrope"})
_CHATML_END = "<|im_end|>"
_NAMES = frozenset(
    {"_name_or_path", "_model_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures"}
)
_SAMPLES = 1024


def causal_lm_class(config: Any, name: str) -> type[Any]:
    """The class that would serve `config`, if a prefix cache of keys and values can serve it at all.

    Raises:
        ModelError: not a causal language model, or one whose attention or state cannot be cached by prefix.
    """
    from transformers import AutoModelForCausalLM

    mapping = AutoModelForCausalLM._model_mapping
    if type(config) not in mapping:
        _refuse_encoder_decoder(config, name)
        raise ModelError(f"{name}: transformers has no causal language model for {config.model_type}")
    found: Any = mapping[type(config)]
    model_class: type[Any] = found[0] if isinstance(found, tuple) else found
    check_class(model_class, config, name)
    return model_class


def check_class(model_class: type[Any], config: Any, name: str) -> None:
    """Refuse a class of models that says itself that its keys and values cannot be cached by prefix.

    Raises:
        ModelError: naming the model, and what stands against it.
    """
    _refuse_encoder_decoder(config, name)
    kind = config.model_type
    names = _causal_names()
    own = next((base for base in model_class.__mro__ if base.__name__ in names), None)
    if own is None:
        raise ModelError(f"{name}: {model_class.__name__} is no causal language model of transformers")
    types = getattr(config.get_text_config(), "layer_types", None) or ()
    other = sorted(set(types) - _LAYER_TYPES)
    if getattr(model_class, "_is_stateful", False) or other:
        what = f"layers of type {', '.join(other)}" if other else "recurrent state"
        raise ModelError(f"{name}: {kind} has {what}, which a cache of keys and values cannot restore")
    # Some that dispatch through the interface do not say so in the flag (StableLM), hence both signs.
    dispatches = hasattr(sys.modules[own.__module__], "ALL_ATTENTION_FUNCTIONS")
    if not dispatches and not getattr(model_class, "_supports_attention_backend", False):
        raise ModelError(f"{name}: {kind} computes attention itself, past transformers' attention interface")


def _refuse_encoder_decoder(config: Any, name: str) -> None:
    if config.is_encoder_decoder:
        what = f"{config.model_type} is an encoder-decoder"
        raise ModelError(f"{name}: {what}; only decoder-only models can be served")


def _causal_names() -> set[str]:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    found: set[str] = set()
    for names in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        found.update([names] if isinstance(names, str) else names)
    return found


def max_context(config: Any, name: str) -> int:
    """The most tokens a sequence may hold.

    Where RoPE frequencies change once a sequence outgrows the original context, keys cached before and after
    that would not agree, so the original context is the limit.

    Raises:
        ModelError: the configuration does not say.
    """
    text = config.get_text_config()
    for field in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        length = getattr(text, field, None)
        if isinstance(length, int) and length > 0:
            break
    else:
        raise ModelError(f"{name}: its configuration does not say how long a sequence may be")
    rope: Mapping[str, Any] = getattr(text, "rope_parameters", None) or {}
    layers = [value for value in rope.values() if isinstance(value, Mapping)]
    for parameters in layers or [rope]:
        if parameters.get("rope_type") in _LENGTH_DEPENDENT_ROPE:
            length = min(length, parameters.get("original_max_position_embeddings") or length)
    return int(length)


def eos_token_ids(model: Any, tokenizer: Any | None) -> frozenset[int]:
    """Every id that ends a generation.

    The generation configuration decides (the model's own where it is silent); a tokenizer adds its end token,
    and the end of a turn if its chat template is ChatML.
    """
    stated = _ids(getattr(model.generation_config, "eos_token_id", None))
    ids = set(stated or _ids(getattr(model.config.get_text_config(), "eos_token_id", None)))
    if tokenizer is not None:
        ids |= _ids(tokenizer.eos_token_id)
        template = tokenizer.chat_template
        if isinstance(template, str) and _CHATML_END in template:
            ids |= {tokenizer.get_vocab()[_CHATML_END]} if _CHATML_END in tokenizer.get_vocab() else set()
    return frozenset(ids)


def _ids(value: int | list[int] | None) -> set[int]:
    if value is None:
        return set()
    return {int(value)} if isinstance(value, int) else {int(item) for item in value}


def fingerprint(model: Any, dtype: torch.dtype) -> str:
    """Digest (xxh3-128, hex) of configuration, dtype and evenly spaced samples of every weight.

    It depends on values, not on paths or files: copies of a model agree, a fine-tune of it does not.
    """
    digest = xxhash.xxh3_128()
    settings = {key: value for key, value in model.config.to_dict().items() if key not in _NAMES}
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    digest.update(str(dtype).encode())
    for name, weight in sorted(model.state_dict().items()):
        flat = weight.detach().reshape(-1)
        sample = flat[:: max(1, flat.numel() // _SAMPLES)].contiguous().cpu()
        digest.update(f"{name}{tuple(weight.shape)}".encode())
        digest.update(sample.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
