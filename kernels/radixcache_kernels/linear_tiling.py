"""Tiles of the invariant linear layer, and which of them a product runs in.

A number of the result is summed over `in` by one matrix instruction, from the first input to the last, in one
accumulator. How many rows, outputs or inputs a tile takes changes neither that order nor the instruction, so
all tiles for a dtype give a row the same bits, and which of them runs is a matter of speed alone. On Hopper
that instruction is wgmma, which takes rows in 64s: a decode step pays for 64 rows of products even if it has
one. It is bound by reading the weights, so this costs it no time, and rows that are not there are not read.
Tiles of fewer rows would be multiplied by mma.sync, which rounds differently; for the same reason `in` is
never split between programs: one split for all row counts would need a second set of accumulators in the
large tiles of a prefill, and they have no registers left.

That a device does as said here is not taken on trust: `linear_bits` (same_bits.py) compares all tiles on it.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil

import torch
import triton

from radixcache_kernels.jit import INTERPRETED

# Rows up to which reading the weights is what a product waits for.
FEW_ROWS = 64
# Of the processors, those that must have a program for a wider tile to be worth its lower traffic.
LEAST_BUSY = 0.75


@dataclass(frozen=True, slots=True)
class LinearTile:
    """A program's part of a product.

    Attributes:
        rows, outs: numbers of the result that it computes, as rows x outputs.
        ins: inputs that one turn of its loop multiplies.
        warps, stages: warps of the program, and turns whose loads are under way at once.
        efficiency: estimated part of the device's products a second that it reaches, where these are the
            limit; ranks tiles, no more.
    """

    rows: int
    outs: int
    ins: int
    warps: int
    stages: int
    efficiency: float

    def stage_bytes(self, element_size: int) -> int:
        """Shared memory that a stage takes."""
        return (self.rows + self.outs) * self.ins * element_size


HALF_TILES = (
    LinearTile(64, 16, 128, warps=4, stages=5, efficiency=0.15),
    LinearTile(64, 32, 128, warps=4, stages=4, efficiency=0.3),
    LinearTile(64, 64, 128, warps=4, stages=3, efficiency=0.5),
    LinearTile(64, 128, 64, warps=4, stages=4, efficiency=0.65),
    LinearTile(128, 128, 64, warps=8, stages=3, efficiency=0.85),
    LinearTile(128, 256, 64, warps=8, stages=4, efficiency=1.0),
)
# Without a tensor core: what a thread adds up is in registers, and large tiles would spill.
FLOAT_TILES = (
    LinearTile(16, 32, 64, warps=4, stages=3, efficiency=0.3),
    LinearTile(64, 64, 32, warps=8, stages=3, efficiency=1.0),
)


@dataclass(frozen=True, slots=True)
class _Device:
    processors: int
    shared_bytes: int


@lru_cache(maxsize=16)
def _device(device: torch.device) -> _Device:
    if INTERPRETED:
        return _Device(4, 1 << 18)
    index = torch.cuda.current_device() if device.index is None else device.index
    properties = triton.runtime.driver.active.utils.get_device_properties(index)
    return _Device(properties["multiprocessor_count"], properties["max_shared_mem"])


@lru_cache(maxsize=64)
def linear_tiles(dtype: torch.dtype, device: torch.device) -> tuple[LinearTile, ...]:
    """The tiles for a dtype that the device has shared memory for, the smallest first; never none."""
    most = _device(device).shared_bytes
    wanted = FLOAT_TILES if dtype == torch.float32 else HALF_TILES
    fitting = []
    for tile in wanted:
        stages = min(tile.stages, most // tile.stage_bytes(dtype.itemsize))
        if stages >= 2:
            fitting.append(replace(tile, stages=stages))
    return tuple(fitting) if fitting else (replace(wanted[0], stages=1),)


@lru_cache(maxsize=4096)
def choose_linear_tile(rows: int, out_features: int, dtype: torch.dtype, device: torch.device) -> LinearTile:
    """The tile for a product of `rows` rows; a function of its arguments and the device, never of timings."""
    tiles = linear_tiles(dtype, device)
    processors = _device(device).processors
    if rows <= FEW_ROWS:
        return _for_few_rows([tile for tile in tiles if tile.rows <= FEW_ROWS], out_features, processors)
    return min(tiles, key=lambda tile: _turns(tile, rows, out_features, processors))


def _for_few_rows(tiles: list[LinearTile], out_features: int, processors: int) -> LinearTile:
    """The widest of one tile height that leaves few processors idle: each program reads all rows' inputs."""
    lowest = min(tile.rows for tile in tiles)
    low = [tile for tile in tiles if tile.rows == lowest]
    busy = [tile for tile in low if ceil(out_features / tile.outs) >= LEAST_BUSY * processors]
    return busy[-1] if busy else low[0]


def _turns(tile: LinearTile, rows: int, out_features: int, processors: int) -> float:
    """Time by estimate, in numbers of a result at full efficiency: rounds of programs x what each takes."""
    programs = ceil(rows / tile.rows) * ceil(out_features / tile.outs)
    return ceil(programs / processors) * tile.rows * tile.outs / tile.efficiency
