"""What keys and values of a model look like: groups of layers, and the bytes of a token and a block."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch

from radixcache.errors import ModelError
from radixcache.kv.formats import stored_dtype
from radixcache_kernels.formats import CODES, head_scales, stored_width

_SLIDING = "sliding_attention"


@dataclass(frozen=True)
class LayerGroup:
    """Layers whose keys and values have one shape, type and reach; they share tensors in a pool.

    Attributes:
        layers: indices in the model, ascending.
        num_kv_heads: key/value heads of a layer (after grouping).
        head_dim: width of a head, in elements.
        dtype: element type of the keys and values that the model computes.
        kv_dtype: what they are stored as, a name of `formats.KV_DTYPES`.
        window: tokens that a row sees at most, itself included; None: all before it, also where a
            configuration does not say which layers slide. Attention masks by what the model passes; this is
            the bound past which it never looks.

    Raises:
        ValueError: no layers, a number below 1, an unknown `kv_dtype`, or one that heads of this width
            cannot be stored as.
    """

    layers: tuple[int, ...]
    num_kv_heads: int
    head_dim: int
    dtype: torch.dtype
    kv_dtype: str = "auto"
    window: int | None = None

    def __post_init__(self) -> None:
        for name in ("num_kv_heads", "head_dim", "window"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not self.layers:
            raise ValueError("a group must have at least 1 layer, got 0")
        stored = self.stored
        try:
            head_scales(stored, self.head_dim, keys=True)
        except ValueError:
            raise ValueError(
                f"kv_dtype is {self.kv_dtype!r}, which needs heads of a multiple of 16 elements, "
                f"not {self.head_dim}"
            ) from None

    @property
    def stored(self) -> torch.dtype:
        """Element type in the pool."""
        return stored_dtype(self.kv_dtype, self.dtype)

    @property
    def width(self) -> int:
        """Elements of the pool that hold one head of one token's key or value."""
        return stored_width(self.stored, self.head_dim)

    @property
    def quantised(self) -> bool:
        """The pool holds codes, and scales beside them."""
        return self.stored in CODES

    @property
    def readable(self) -> bool:
        """The pool holds what the model computes, as it is."""
        return self.stored == self.dtype

    @property
    def readable_bytes_per_token(self) -> int:
        """Bytes of one token over the group's layers in the type that the model computes."""
        return 2 * len(self.layers) * self.num_kv_heads * self.head_dim * self.dtype.itemsize

    @property
    def bytes_per_token(self) -> int:
        """Bytes of keys and values of one token over the group's layers, scales included."""
        codes = 2 * self.width * self.stored.itemsize
        both = (head_scales(self.stored, self.head_dim, keys=keys) for keys in (True, False))
        scales = sum(math.prod(found[0]) * found[1].itemsize for found in both if found is not None)
        return len(self.layers) * self.num_kv_heads * (codes + scales)


class LayerPlace(NamedTuple):
    """Where a layer's keys and values are.

    Attributes:
        group: number of the layer's group.
        layer: number of the layer in the group.
    """

    group: int
    layer: int


@dataclass(frozen=True)
class KVLayout:
    """Shape of the KV cache of one model.

    A block holds its tokens' keys and values of every group, and a sequence has one block table for all of
    them. (Groups of sliding-window layers could drop blocks that have left the window if they had tables of
    their own: those would be named here, a table's number for each group, and the cache would allocate by
    table. Nothing but the pool and the backends reads a table by group.)

    Attributes:
        groups: in the order of their first layers; every layer of 0..num_layers-1 is in one of them.
        block_size: tokens a block.

    Raises:
        ValueError: the groups do not hold every layer once, or block_size is below 1.
    """

    groups: tuple[LayerGroup, ...]
    block_size: int

    def __post_init__(self) -> None:
        if self.block_size < 1:
            raise ValueError(f"block_size must be at least 1, got {self.block_size}")
        layers = [layer for group in self.groups for layer in group.layers]
        if sorted(layers) != list(range(len(layers))) or not layers:
            raise ValueError(f"groups must hold each layer from 0 on once, got {layers}")

    @classmethod
    def uniform(
        cls,
        num_layers: int,
        num_kv_heads: int,
        head_dim: int,
        block_size: int,
        dtype: torch.dtype,
        kv_dtype: str = "auto",
        window: int | None = None,
    ) -> KVLayout:
        """Layout of layers that are all alike.

        Raises:
            ValueError: as for `LayerGroup`.
        """
        layers = tuple(range(num_layers))
        return cls((LayerGroup(layers, num_kv_heads, head_dim, dtype, kv_dtype, window),), block_size)

    @classmethod
    def of(cls, config: Any, block_size: int, dtype: torch.dtype, kv_dtype: str = "auto") -> KVLayout:
        """Layout for a transformers configuration (the text part of a composite one).

        Raises:
            ModelError: the configuration does not give a layer's shape.
            ValueError: as for `LayerGroup`.
        """
        text = config.get_text_config(decoder=True)
        alike: dict[tuple[int, int, int | None], list[int]] = {}
        for layer in range(_number(text, "num_hidden_layers")):
            alike.setdefault(_shape(text, layer), []).append(layer)
        groups = tuple(
            LayerGroup(tuple(layers), kv_heads, head_dim, dtype, kv_dtype, window)
            for (kv_heads, head_dim, window), layers in alike.items()
        )
        return cls(groups, block_size)

    @cached_property
    def places(self) -> tuple[LayerPlace, ...]:
        """The place of every layer."""
        found = {
            layer: LayerPlace(number, place)
            for number, group in enumerate(self.groups)
            for place, layer in enumerate(group.layers)
        }
        return tuple(found[layer] for layer in range(len(found)))

    @property
    def num_layers(self) -> int:
        """Decoder layers that attend."""
        return len(self.places)

    def group_of(self, layer: int) -> LayerGroup:
        """The group that a layer is in."""
        return self.groups[self.places[layer].group]

    @property
    def bytes_per_token(self) -> int:
        """Bytes of keys and values of one token over all layers, scales included."""
        return sum(group.bytes_per_token for group in self.groups)

    @property
    def bytes_per_block(self) -> int:
        """Bytes of one block over all layers, scales included."""
        return self.bytes_per_token * self.block_size

    @property
    def fingerprint(self) -> str:
        """Names everything that two pools must agree on to exchange blocks of one model."""
        groups = "+".join(
            f"{_ranges(group.layers)}x{group.num_kv_heads}x{group.head_dim}"
            f"/{str(group.stored).removeprefix('torch.')}"
            for group in self.groups
        )
        return f"{groups}/{self.block_size}"

    def blocks_in(self, num_bytes: int) -> int:
        """Whole blocks that fit in `num_bytes`."""
        return num_bytes // self.bytes_per_block


def layer_config(text: Any, layer: int) -> Any:
    """A transformers configuration (the text part of a composite one) as it holds for one layer."""
    if getattr(text, "is_heterogeneous", False):
        return text.per_layer_config[layer]
    return text


def _shape(text: Any, layer: int) -> tuple[int, int, int | None]:
    """Key/value heads, head width and window of a layer."""
    own = layer_config(text, layer)
    heads = _number(own, "num_attention_heads")
    default = None if getattr(own, "multi_query", False) else heads
    kv_heads = 1 if default is None else _number(own, "num_key_value_heads", default=default)
    head_dim = _number(own, "head_dim", default=_number(own, "hidden_size") // heads)
    types = getattr(text, "layer_types", None)
    sliding = isinstance(types, list | tuple) and layer < len(types) and types[layer] == _SLIDING
    window = getattr(own, "sliding_window", None) if sliding else None
    return kv_heads, head_dim, window or None


def _number(config: Any, name: str, *, default: int | None = None) -> int:
    """A field that holds one number; `default` where it is None or absent."""
    try:
        value = getattr(config, name, None)
    except Exception as error:  # transformers' own error for a field that differs by layer
        raise ModelError(f"{config.model_type} does not say what its {name} is: {error}") from error
    if value is None:
        value = default
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelError(f"{name} of {config.model_type} must be at least 1, got {value!r}")
    return value


def _ranges(layers: Iterable[int]) -> str:
    """Layers as `0-4,6`."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and runs[-1][1] == layer - 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
