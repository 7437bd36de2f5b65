"""What a model's keys and values weigh, and its weights, from the fields of its config.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from radixcache.errors import ModelError
from radixcache.models.configs import ConfigFile

__all__ = ["DTYPE_BITS", "ModelShape", "dtype_bits", "shape_of"]

DTYPE_BITS = {
    "float32": 32,
    "fp32": 32,
    "float16": 16,
    "fp16": 16,
    "bfloat16": 16,
    "bf16": 16,
    "float8": 8,
    "fp8": 8,
    "int8": 8,
    "int4": 4,
    "fp4": 4,
}
"""Bits of an element by the names that are understood; the scales of quantised caches are not counted."""

_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HEADS = ("num_attention_heads", "n_head", "n_heads")
_WIDTH = ("hidden_size", "n_embd", "d_model")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads", "multi_query_group_num")
_HEAD_DIM = ("head_dim", "kv_channels", "attention_head_dim")
_CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
_GATED = frozenset({"llama", "mistral", "mixtral", "qwen2", "qwen3"})
_UNSTATED = {
    "gemma3n_text": {"num_kv_shared_layers": 15},
    "gemma4_text": {"global_head_dim": 512},
    "gemma4_unified_text": {"global_head_dim": 512},
}
"""What a configuration of these types leaves out where it is so."""
_EVERY_TOKEN = frozenset({"full_attention", "chunked_attention"})


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The numbers that decide how much room a token takes.

    Attributes:
        name: the model as it was named.
        layers: layers that keep something for every token.
        sliding_layers: how many of them attend to no more than `sliding_window` tokens.
        sliding_window: tokens, 0 without such layers.
        elements: elements a token over all layers: KV heads x head size x 2 a layer, or the compressed
            latent and the rotary part of a model with multi-head latent attention.
        sliding_elements: how many of them are in sliding layers.
        kv_heads, head_dim: of a layer; None for latent attention, and where layers differ.
        dtype: as the configuration states it, `float16` if it does not.
        max_context: tokens, None if not stated.
        weights_bytes: None if unknown.
        weights_from: `files` if measured, `estimate` if computed from the shape; None if unknown.
    """

    name: str
    layers: int
    sliding_layers: int
    sliding_window: int
    elements: int
    sliding_elements: int
    kv_heads: int | None
    head_dim: int | None
    dtype: str
    max_context: int | None
    weights_bytes: int | None
    weights_from: str | None

    def bytes_per_token(self, bits: int) -> int:
        """Bytes of one token over all layers, with elements of `bits` bits."""
        return self.elements * bits // 8

    def windowed_bytes(self, tokens: int, bits: int) -> int:
        """Bytes of a sequence in an engine that drops what sliding layers no longer attend to."""
        full = (self.elements - self.sliding_elements) * tokens
        sliding = self.sliding_elements * min(tokens, self.sliding_window)
        return (full + sliding) * bits // 8


def dtype_bits(name: str) -> int:
    """Bits of an element.

    Raises:
        ValueError: naming what is understood.
    """
    known = "fp8" if name.startswith("float8_") else name
    if known not in DTYPE_BITS:
        raise ValueError(f"dtype must be one of {', '.join(DTYPE_BITS)}, got {name!r}")
    return DTYPE_BITS[known]


def shape_of(name: str, file: ConfigFile) -> ModelShape:
    """Read the shape of a decoder-only model from its configuration (the text part of a composite one).

    Raises:
        ModelError: naming the file and the field that is missing or wrong, or why tokens of this model have
            no fixed weight.
    """
    fields = _Fields(file)
    if fields.flag("is_encoder_decoder"):
        raise ModelError(f"{file.path}: is an encoder-decoder; only decoder-only models keep one cache")
    total = fields.number(_LAYERS)
    slides, window = _sliding(fields, total)
    # The last layers of some models read what earlier ones keep, and keep nothing.
    layers = total - (fields.count("num_kv_shared_layers") or 0)
    if layers < 1:
        raise fields.refuse(f"num_kv_shared_layers is {total - layers}, but there are {total} layers")
    slides = slides[:layers]
    latent = fields.optional(("kv_lora_rank",))
    if latent is not None:
        elements = [latent + fields.number(("qk_rope_head_dim",))] * layers
        kv_heads = head_dim = None
    else:
        widths = [_width(fields, layer, sliding) for layer, sliding in enumerate(slides)]
        elements = [heads * (key + value) for heads, key, value in widths]
        kv_heads, head_dim, _ = widths[0] if len(set(widths)) == 1 else (None, None, None)
    dtype = fields.text("dtype") or fields.text("torch_dtype") or "float16"
    weights, weights_from = _weights(fields, file, dtype)
    return ModelShape(
        name=name,
        layers=layers,
        sliding_layers=sum(slides),
        sliding_window=window if any(slides) else 0,
        elements=sum(elements),
        sliding_elements=sum(width for width, sliding in zip(elements, slides, strict=True) if sliding),
        kv_heads=kv_heads,
        head_dim=head_dim,
        dtype=dtype,
        max_context=fields.optional(_CONTEXT),
        weights_bytes=weights,
        weights_from=weights_from,
    )


class _Fields:
    """Checked access; a composite model's text part is looked at first."""

    def __init__(self, file: ConfigFile) -> None:
        self._path = file.path
        parts = [file.fields.get(key) for key in ("text_config", "llm_config", "attn_config")]
        self._parts: list[dict[str, Any]] = [part for part in parts if isinstance(part, dict)]
        self._parts.append(file.fields)

    def get(self, name: str) -> Any:
        return next((part[name] for part in self._parts if part.get(name) is not None), None)

    def text(self, name: str) -> str | None:
        value = self.get(name)
        return value if isinstance(value, str) else None

    def flag(self, name: str) -> bool:
        return self.get(name) is True

    def optional(self, names: tuple[str, ...]) -> int | None:
        for name in names:
            value = self.get(name)
            if value is None:
                continue
            if type(value) is not int or value < 1:
                raise ModelError(f"{self._path}: {name} must be an integer of at least 1, got {value!r}")
            return value
        return None

    def count(self, name: str) -> int | None:
        """As `optional`, where 0 is a number, too, or what the type takes where it is absent."""
        value = self.get(name)
        if value is None:
            value = _UNSTATED.get(str(self.get("model_type")), {}).get(name)
        if value is not None and (type(value) is not int or value < 0):
            raise ModelError(f"{self._path}: {name} must be an integer of at least 0, got {value!r}")
        return value

    def number(self, names: tuple[str, ...]) -> int:
        value = self.optional(names)
        if value is None:
            raise ModelError(f"{self._path}: {names[0]} is missing, so a token's weight is unknown")
        return value

    def refuse(self, reason: str) -> ModelError:
        return ModelError(f"{self._path}: {reason}")


def _kv_heads(fields: _Fields, heads: int) -> int:
    # Falcon's flag is about its first architecture only; the second states its KV heads.
    if fields.flag("multi_query") and not fields.flag("new_decoder_architecture"):
        return 1
    return fields.optional((*_KV_HEADS, "kv_n_heads")) or heads


def _width(fields: _Fields, layer: int, sliding: bool) -> tuple[int, int, int]:
    """KV heads of a layer, and the widths of a key and of a value in one of them."""
    heads = fields.number(_HEADS)
    own = fields.get("per_layer_config")
    stated = own.get(str(layer)) if isinstance(own, dict) else None
    overrides: dict[str, Any] = stated if isinstance(stated, dict) else {}
    if own is None and sliding:
        overrides = {
            "num_key_value_heads": fields.count("swa_num_key_value_heads"),
            "head_dim": fields.count("swa_head_dim"),
            "v_head_dim": fields.count("swa_v_head_dim"),
        }
    elif own is None:
        kv_heads = fields.count("num_global_key_value_heads") if fields.flag("attention_k_eq_v") else None
        overrides = {"num_key_value_heads": kv_heads, "head_dim": fields.count("global_head_dim")}
    for name, value in overrides.items():
        if name in ("num_key_value_heads", "head_dim") and value is not None and type(value) is not int:
            raise fields.refuse(f"{name} of layer {layer} must be an integer, got {value!r}")
    key = overrides.get("head_dim") or fields.optional(_HEAD_DIM) or fields.number(_WIDTH) // heads
    value = overrides.get("v_head_dim") or fields.optional(("v_head_dim",)) or key
    return overrides.get("num_key_value_heads") or _kv_heads(fields, heads), key, value


def _sliding(fields: _Fields, layers: int) -> tuple[list[bool], int]:
    """Which layers slide, and over how many tokens."""
    types = fields.get("layer_types")
    window = fields.optional(("sliding_window",))
    if isinstance(types, list):
        other = sorted({str(kind) for kind in types} - _EVERY_TOKEN - {"sliding_attention"})
        if other:
            raise fields.refuse(f"has layers of type {', '.join(other)}, which keep no state by the token")
        if len(types) != layers:
            raise fields.refuse(f"layer_types names {len(types)} layers, but there are {layers}")
        return [kind == "sliding_attention" and window is not None for kind in types], window or 0
    if window is None or fields.get("use_sliding_window") is False:
        return [False] * layers, 0
    every = fields.optional(("sliding_window_pattern",))
    if every is not None:  # every so manieth layer attends to everything
        return [(layer + 1) % every != 0 for layer in range(layers)], window
    first = fields.get("max_window_layers")
    return [layer >= first if type(first) is int else True for layer in range(layers)], window


def _weights(fields: _Fields, file: ConfigFile, dtype: str) -> tuple[int | None, str | None]:
    if file.weights_bytes is not None:
        return file.weights_bytes, "files"
    kind = fields.text("model_type")
    if kind not in _GATED or fields.get("quantization_config") is not None:
        return None, None
    try:
        return _gated_parameters(fields, kind) * dtype_bits(dtype) // 8, "estimate"
    except (ModelError, ValueError):
        return None, None


def _gated_parameters(fields: _Fields, kind: str) -> int:
    """Parameters of a Llama-like decoder: grouped attention, gated MLP, perhaps several experts of it."""
    width, vocabulary = fields.number(_WIDTH), fields.number(("vocab_size",))
    heads = fields.number(_HEADS)
    head_dim = fields.optional(_HEAD_DIM) or width // heads
    queries, keys = heads * head_dim, _kv_heads(fields, heads) * head_dim
    experts = fields.optional(("num_local_experts",)) if kind == "mixtral" else None
    mlp = 3 * width * fields.number(("intermediate_size",)) * (experts or 1) + width * (experts or 0)
    biases = queries + 2 * keys if kind == "qwen2" or fields.flag("attention_bias") else 0
    norms = 2 * width + (2 * head_dim if kind == "qwen3" else 0)
    layer = 2 * width * (queries + keys) + mlp + biases + norms
    embeddings = vocabulary * width * (1 if fields.flag("tie_word_embeddings") else 2)
    return embeddings + width + fields.number(_LAYERS) * layer
