"""What one token's keys and values weigh, read off a model's configuration."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from radixcache.errors import ModelError
from radixcache.kv.formats import QUANTISED, scales_of, stored_dtype, stored_width


@dataclass(frozen=True, slots=True)
class KVLayout:
    """Shape of the KV cache of one model.

    Attributes:
        num_layers: decoder layers that attend.
        num_kv_heads: key/value heads a layer (after grouping).
        head_dim: width of a head, in elements.
        block_size: tokens a block.
        dtype: element type of the keys and values that the model computes.
        kv_dtype: what they are stored as, a name of `formats.KV_DTYPES`.

    Raises:
        ValueError: an unknown `kv_dtype`, or one that heads of this width cannot be stored as.
    """

    num_layers: int
    num_kv_heads: int
    head_dim: int
    block_size: int
    dtype: torch.dtype
    kv_dtype: str = "auto"

    def __post_init__(self) -> None:
        scales_of(self.stored, self.head_dim, keys=True)

    @classmethod
    def of(cls, config: Any, block_size: int, dtype: torch.dtype, kv_dtype: str = "auto") -> KVLayout:
        """Layout for a transformers configuration (the text part of a composite one).

        Raises:
            ModelError: the configuration does not say, or the shape differs by layer.
            ValueError: as for the class.
        """
        text = config.get_text_config(decoder=True)
        heads = _number(text, "num_attention_heads")
        if getattr(text, "multi_query", False):
            kv_heads = 1
        else:
            kv_heads = _number(text, "num_key_value_heads", default=heads)
        head_dim = _number(text, "head_dim", default=_number(text, "hidden_size") // heads)
        layers = _number(text, "num_hidden_layers")
        return cls(layers, kv_heads, head_dim, block_size, dtype, kv_dtype)

    @property
    def stored(self) -> torch.dtype:
        """Element type in the pool."""
        return stored_dtype(self.kv_dtype, self.dtype)

    @property
    def quantised(self) -> bool:
        """The pool holds codes, and what scales them beside them."""
        return self.stored in QUANTISED

    @property
    def readable(self) -> bool:
        """The pool holds what the model computes, as it is."""
        return self.stored == self.dtype

    @property
    def readable_bytes_per_block(self) -> int:
        """Bytes of one block over all layers in the type that the model computes."""
        elements = 2 * self.num_layers * self.num_kv_heads * self.head_dim * self.block_size
        return elements * self.dtype.itemsize

    @property
    def bytes_per_token(self) -> int:
        """Bytes of keys and values of one token over all layers, scales included."""
        codes = 2 * stored_width(self.stored, self.head_dim) * self.stored.itemsize
        both = (scales_of(self.stored, self.head_dim, keys=keys) for keys in (True, False))
        scales = sum(math.prod(found[0]) * found[1].itemsize for found in both if found is not None)
        return self.num_layers * self.num_kv_heads * (codes + scales)

    @property
    def bytes_per_block(self) -> int:
        """Bytes of one block over all layers, scales included."""
        return self.bytes_per_token * self.block_size

    @property
    def fingerprint(self) -> str:
        """Names everything that two pools must agree on to exchange blocks of one model."""
        stored = str(self.stored).removeprefix("torch.")
        return f"{self.num_layers}x{self.num_kv_heads}x{self.head_dim}/{self.block_size}/{stored}"

    def blocks_in(self, num_bytes: int) -> int:
        """Whole blocks that fit in `num_bytes`."""
        return num_bytes // self.bytes_per_block


def _number(config: Any, name: str, *, default: int | None = None) -> int:
    """A field that holds one number for all layers; `default` where it is None or absent."""
    try:
        value = getattr(config, name, None)
    except Exception as error:  # transformers raises one of its own for a field that differs by layer
        raise _differs(config, name) from error
    if value is None:
        value = default
    if isinstance(value, list | tuple | dict):
        raise _differs(config, name)
    if not isinstance(value, int) or value < 1:
        raise ModelError(f"{name} of {config.model_type} must be at least 1, got {value!r}")
    return value


def _differs(config: Any, name: str) -> ModelError:
    return ModelError(
        f"{config.model_type} has keys and values whose shape differs by layer ({name}); "
        "one shape for all layers is needed"
    )
