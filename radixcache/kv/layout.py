"""What one token's keys and values weigh, read off a model's configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class KVLayout:
    """Shape of the KV cache of one model.

    Attributes:
        num_layers: decoder layers that attend.
        num_kv_heads: key/value heads a layer (after grouping).
        head_dim: width of a head, in elements.
        block_size: tokens a block.
        dtype: element type of keys and values.
    """

    num_layers: int
    num_kv_heads: int
    head_dim: int
    block_size: int
    dtype: torch.dtype

    @classmethod
    def of(cls, config: Any, block_size: int, dtype: torch.dtype) -> KVLayout:
        """Layout for a transformers configuration (the text part of a composite one)."""
        text = config.get_text_config(decoder=True)
        heads = text.num_attention_heads
        if getattr(text, "multi_query", False):
            kv_heads = 1
        else:
            kv_heads = getattr(text, "num_key_value_heads", None) or heads
        head_dim = getattr(text, "head_dim", None) or text.hidden_size // heads
        return cls(text.num_hidden_layers, kv_heads, head_dim, block_size, dtype)

    @property
    def bytes_per_token(self) -> int:
        """Bytes of keys and values of one token over all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * self.dtype.itemsize

    @property
    def bytes_per_block(self) -> int:
        """Bytes of one block over all layers."""
        return self.bytes_per_token * self.block_size

    def blocks_in(self, num_bytes: int) -> int:
        """Whole blocks that fit in `num_bytes`."""
        return num_bytes // self.bytes_per_block
