"""A sweep of what decides the kernels' speed: keys of a tile, warps, stages, length of a split, wide rows."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest.mock import patch

import torch

from benchmarks.common import write_results
from benchmarks.kernels.cases import Case
from benchmarks.kernels.inputs import Inputs, make_inputs
from benchmarks.kernels.linear import LinearCase, measure_linear
from benchmarks.kernels.measure import Setting, check
from benchmarks.kernels.timing import time_calls
from benchmarks.random_llama import device_label
from radixcache_kernels import Tile, Tiles, tiles

# Where the answer may differ: long private sequences, much sharing, prefill.
DEFAULT_CASES = ("decode-64x8k", "shared-16k", "prefill-1k-31k")
SPLITS = (256, 512, 128)
KEYS = (64, 32, 128)
WARPS = (4, 2, 8)
STAGES = (3, 2, 5)
# Rows of the narrow, the wide and the prefill tile, and warps of the last if not as many as of the others.
ROWS = ((16, 32, 32, None), (16, 32, 128, 8), (64, 64, 128, None), (16, 16, 16, None))
LIMIT_S = 180.0
SAMPLE_S = 0.1
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Choice:
    """One setting of the sweep."""

    split: int
    keys: int
    warps: int
    stages: int
    rows: tuple[int, int, int, int | None]

    @property
    def tiles(self) -> Tiles:
        """Its tiles. They may mix matrix instructions: before use, bits must be compared."""
        narrow, wide, prefill, warps = self.rows
        return Tiles(
            Tile(narrow, self.warps, self.stages),
            Tile(wide, self.warps, self.stages),
            Tile(prefill, self.warps if warps is None else warps, self.stages),
        )


def tune(cases: list[Case], linears: list[LinearCase], setting: Setting, path: Path | None) -> dict[str, str]:
    """Time every choice on each case, the best first in the table; reasons of cases that failed, by name."""
    named = [case for case in cases if case.name in DEFAULT_CASES]
    results: dict[str, object] = {}
    failed: dict[str, str] = {}
    for case in named if len(named) > 0 else cases:
        try:
            timed, refused = _sweep(case, setting)
        except Exception as error:  # the other cases go on
            failed[case.name] = f"{type(error).__name__}: {error}"
            print(f"{case.label}: FAILED: {failed[case.name]}", flush=True)
            continue
        print(f"{case.label}: {len(timed)} choices timed, {len(refused)} refused")
        for seconds, choice in timed[:SHOWN]:
            print(f"  {seconds * 1e3:8.3f} ms  {choice}")
        results[case.name] = {
            "timed": [{"seconds": seconds, **asdict(choice)} for seconds, choice in timed],
            "refused": refused,
        }
        if path is not None:
            payload = {"device": device_label(setting.device), "tiny": setting.tiny, "cases": results}
            write_results(path, payload | {"failed": failed}, quiet=True)
    for linear in linears:
        try:
            swept = measure_linear(linear, setting, sweep=True)
        except Exception as error:  # the other cases go on
            failed[linear.name] = f"{type(error).__name__}: {error}"
            print(f"{linear.label}: FAILED: {failed[linear.name]}", flush=True)
            continue
        for name, product in swept.products.items():
            best = min(product.tiles, key=lambda tile: product.tiles[tile])
            chosen = product.ours.median_s * 1e3
            print(
                f"{linear.label}, {name}: chosen {product.tile.rows}x{product.tile.outs} {chosen:.3f} ms, "
                f"best {best} {product.tiles[best] * 1e3:.3f} ms, torch {product.torch.median_s * 1e3:.3f} ms"
            )
        results[linear.name] = swept.as_dict()
        if path is not None:
            payload = {"device": device_label(setting.device), "tiny": setting.tiny, "cases": results}
            write_results(path, payload | {"failed": failed}, quiet=True)
    return failed


def choices(tiny: bool) -> list[Choice]:
    """Those to try, the likeliest first."""
    if tiny:
        return [Choice(32, 16, 4, 3, ROWS[0]), Choice(64, 32, 4, 2, ROWS[3])]
    every = itertools.product(SPLITS, ROWS, KEYS, WARPS, STAGES)
    return [Choice(split, keys, warps, stages, rows) for split, rows, keys, warps, stages in every]


def _sweep(case: Case, setting: Setting) -> tuple[list[tuple[float, Choice]], dict[str, str]]:
    inputs = make_inputs(case, setting.shape, setting.dtype, setting.device, setting.seed)
    end = time.perf_counter() + LIMIT_S
    timed: list[tuple[float, Choice]] = []
    refused: dict[str, str] = {}
    for choice in choices(setting.tiny):
        if time.perf_counter() > end:
            refused["the rest"] = f"not tried: {LIMIT_S:.0f} s were over"
            break
        try:
            timed.append((_seconds(inputs, choice, setting), choice))
        except Exception as error:  # too much shared memory, a mixture of instructions, a wrong result
            refused[str(choice)] = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
    timed.sort(key=lambda item: item[0])
    return timed, refused


def _seconds(inputs: Inputs, choice: Choice, setting: Setting) -> float:
    options = inputs.options(share=True, tiles=choice.tiles, split=choice.split)
    with _tile_keys(choice.keys):
        calls = [inputs.call(copy, options) for copy in inputs.copies]
        check(calls[0](), inputs, all_sequences=setting.tiny)
        seconds = time_calls(calls, setting.device, SAMPLE_S).median_s
    del calls
    gc.collect()
    if setting.device.type == "cuda":
        torch.cuda.empty_cache()
    return seconds


@contextmanager
def _tile_keys(keys: int) -> Iterator[None]:
    """Make the kernels choose tiles of so many keys, whatever the head's width."""
    with patch.multiple(tiles, MIN_TILE_KEYS=keys, MAX_TILE_KEYS=keys):
        yield
