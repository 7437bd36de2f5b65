"""Pools of every format, and what they stand for in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor

from benchmarks.kernels.cases import BLOCK_SIZE, Shape
from radixcache_kernels.formats import dequantise, scales_of, stored_width

CODE_TYPES = {"int8": torch.int8, "fp8": torch.float8_e4m3fn, "int4": torch.uint8}


class Scales(TypedDict):
    """Keyword arguments of the kernels."""

    k_scales: Tensor | None
    v_scales: Tensor | None


@dataclass(frozen=True, slots=True)
class Pools:
    """Keys and values `[(layers,) blocks, BLOCK_SIZE, kv_heads, width]` with the scales of codes, if any."""

    keys: Tensor
    values: Tensor
    k_scales: Tensor | None
    v_scales: Tensor | None

    @property
    def storages(self) -> list[Tensor]:
        """Keys, values, and where there are any the scales of both."""
        return [part for part in (self.keys, self.values, self.k_scales, self.v_scales) if part is not None]

    @property
    def scales(self) -> Scales:
        """As the kernels' keyword arguments."""
        return Scales(k_scales=self.k_scales, v_scales=self.v_scales)

    @property
    def bytes_per_block(self) -> int:
        """Keys, values and scales of a block, of all layers."""
        sizes = [part.numel() * part.element_size() for part in self.storages]
        return sum(sizes) // self.keys.shape[-4]

    @property
    def bytes_per_number(self) -> float:
        """Of a key or value without its scale."""
        return 0.5 if self.keys.dtype == torch.uint8 else self.keys.element_size()

    def dequantised(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the blocks `at` of one layer, in float64 or as they are stored."""
        return (_plain(self.keys, self.k_scales, at), _plain(self.values, self.v_scales, at))


def make_pools(
    kv_format: str, dtype: torch.dtype, shape: Shape, blocks: tuple[int, ...], device: torch.device
) -> Pools:
    """Pools that nothing has been written to, for `(blocks,)` or `(layers, blocks)`."""
    code_type = CODE_TYPES.get(kv_format, dtype)
    width = stored_width(code_type, shape.head_dim)
    keys, values = (
        torch.empty((*blocks, BLOCK_SIZE, shape.kv_heads, width), dtype=code_type, device=device)
        for _ in range(2)
    )
    return Pools(keys, values, _scales(keys, keys=True), _scales(values, keys=False))


def _scales(pool: Tensor, *, keys: bool) -> Tensor | None:
    found = scales_of(pool, keys=keys)
    return None if found is None else torch.empty(found[0], dtype=found[1], device=pool.device)


def _plain(pool: Tensor, scales: Tensor | None, at: Tensor) -> Tensor:
    if scales is None:
        return pool[at]
    return dequantise(pool[at], scales[at], torch.float64)
