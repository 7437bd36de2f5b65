"""The invariant linear layer beside torch's, at the products of a Llama 8 B step of so many rows."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from benchmarks.kernels.cases import Goal
from benchmarks.kernels.inputs import L2_TIMES, MOST_COPIES
from benchmarks.kernels.measure import RELATIVE, Setting, assert_close
from benchmarks.kernels.timing import Timing, time_calls
from radixcache_kernels import LinearTile, choose_linear_tile, invariant_linear, linear_tiles

LAYERS_8B = 32
# Inputs, outputs, and how many of them a step runs.
PRODUCTS_8B = {
    "qkv": (4096, 6144, LAYERS_8B),
    "out": (4096, 4096, LAYERS_8B),
    "gate-up": (4096, 28672, LAYERS_8B),
    "down": (14336, 4096, LAYERS_8B),
    "head": (4096, 128256, 1),
}
PRODUCTS_TINY = {"up": (48, 80, 2), "down": (80, 48, 2)}
# In a prefill the head runs on the few rows whose logits are wanted.
MOST_HEAD_ROWS = 64


@dataclass(frozen=True, slots=True)
class LinearCase:
    """All products of a step of `rows` rows; `goal` is for torch's time over ours, all of them together."""

    name: str
    label: str
    rows: int
    goal: Goal


@dataclass(slots=True)
class ProductFound:
    """One shape's timings, of ours in the tile that is chosen and, in a sweep, in every tile."""

    ins: int
    outs: int
    times: int
    tile: LinearTile
    ours: Timing
    torch: Timing
    tiles: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LinearFound:
    """What was measured of a case; products by name."""

    case: LinearCase
    products: dict[str, ProductFound]

    @property
    def seconds(self) -> float:
        """Of a step's products, ours."""
        return sum(found.times * found.ours.median_s for found in self.products.values())

    @property
    def over_torch(self) -> float:
        """Torch's seconds over ours."""
        theirs = sum(found.times * found.torch.median_s for found in self.products.values())
        return theirs / self.seconds

    def as_dict(self) -> dict[str, Any]:
        """For the results file."""
        return {
            "case": self.case.name,
            "rows": self.case.rows,
            "seconds": self.seconds,
            "over_torch": self.over_torch,
            "goal": {**asdict(self.case.goal), "met": self.case.goal.met(self.over_torch)},
            "products": {name: asdict(found) for name, found in self.products.items()},
        }


def make_linear_cases(*, tiny: bool) -> list[LinearCase]:
    """All cases, in the order of the table."""
    decodes, prefills = ((1, 5), (70,)) if tiny else ((1, 8, 16, 32, 64), (512, 2048, 8192))
    cases = []
    for counts, kind, least in ((decodes, "decode", 0.95), (prefills, "prefill", 0.8)):
        for rows in counts:
            goal = Goal("over_torch", least)
            cases.append(LinearCase(f"linear-{rows}", f"linear layers, {kind} of {rows} rows", rows, goal))
    return cases


def measure_linear(case: LinearCase, setting: Setting, *, sweep: bool = False) -> LinearFound:
    """Check and time a case; with `sweep`, in every tile.

    Raises:
        AssertionError: a result is wrong.
    """
    found: dict[str, ProductFound] = {}
    for name, (ins, outs, times) in (PRODUCTS_TINY if setting.tiny else PRODUCTS_8B).items():
        rows = min(case.rows, MOST_HEAD_ROWS) if name == "head" else case.rows
        found[name] = _product(rows, ins, outs, times, setting, sweep=sweep)
    return LinearFound(case, found)


def _product(rows: int, ins: int, outs: int, times: int, setting: Setting, *, sweep: bool) -> ProductFound:
    device, dtype = setting.device, setting.dtype
    generator = torch.Generator(device).manual_seed(setting.seed)
    weights = torch.empty(_copies(ins, outs, setting), outs, ins, dtype=dtype, device=device)
    x = torch.empty(rows, ins, dtype=dtype, device=device)
    for tensor in (weights, x):
        tensor.normal_(generator=generator)
    exact = x[:64].double() @ weights[0, :512].double().t()
    assert_close(invariant_linear(x, weights[0])[:64, :512].double(), exact, RELATIVE[dtype])

    def time_ours(tile: LinearTile) -> Timing:
        calls = [partial(invariant_linear, x, weight, tile=tile) for weight in weights]
        return time_calls(calls, device, setting.budget_s / 4)

    tile = choose_linear_tile(rows, outs, dtype, device)
    found = ProductFound(
        ins,
        outs,
        times,
        tile,
        time_ours(tile),
        time_calls(
            [partial(functional.linear, x, weight) for weight in weights], device, setting.budget_s / 4
        ),
    )
    if sweep:
        for other in linear_tiles(dtype, device):
            found.tiles[f"{other.rows}x{other.outs}x{other.ins}"] = time_ours(other).median_s
    return found


def _copies(ins: int, outs: int, setting: Setting) -> int:
    """So many weights that none is found in the L2 cache at its turn."""
    if setting.device.type != "cuda":
        return 1
    cache = torch.cuda.get_device_properties(setting.device).L2_cache_size
    return min(MOST_COPIES, math.ceil(L2_TIMES * cache / (ins * outs * setting.dtype.itemsize)))
