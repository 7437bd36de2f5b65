"""A whole run: ceilings, then case after case; what fails is reported and the others go on."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.kernels.cases import LLAMA_8B, TINY, Case, make_cases
from benchmarks.kernels.ceilings import measure_ceilings
from benchmarks.kernels.linear import LinearCase, LinearFound, make_linear_cases, measure_linear
from benchmarks.kernels.measure import Found, Setting, measure
from benchmarks.kernels.moves import Move, Moved, make_moves, measure_move
from benchmarks.kernels.report import (
    LABEL,
    print_case,
    print_ceilings,
    print_linear,
    print_move,
    results_path,
    write,
)
from benchmarks.kernels.tune import tune


def run(options: argparse.Namespace) -> None:
    """Measure, or tune, on the device at hand; exit with status 1 if a case failed."""
    torch.set_num_threads(options.threads)
    setting = Setting(
        shape=TINY if options.tiny else LLAMA_8B,
        dtype=getattr(torch, options.dtype or ("float32" if options.tiny else "bfloat16")),
        device=torch.device("cuda:0" if options.device == "cuda" else options.device),
        seed=options.seed,
        split=16 if options.tiny else None,  # so that tiny sequences have several, too
        budget_s=options.budget,
        tiny=options.tiny,
    )
    cases = make_cases(tiny=options.tiny, seed=options.seed)
    moves = make_moves(tiny=options.tiny)
    linears = make_linear_cases(tiny=options.tiny)
    names = [case.name for case in cases] + [move.name for move in moves] + [case.name for case in linears]
    unknown = set(options.cases or ()) - set(names)
    if unknown:
        sys.exit(f"error: no case {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if options.cases:
        cases = [case for case in cases if case.name in options.cases]
        moves = [move for move in moves if move.name in options.cases]
        linears = [case for case in linears if case.name in options.cases]
    # A tiny run proves that the command works; its figures are worth nothing.
    path: Path | None = options.out or (None if options.tiny else results_path(setting.device))
    started = time.perf_counter()
    if options.tune:
        failed = tune(cases, linears, setting, None if path is None else path.with_stem(f"{path.stem}-tune"))
    else:
        failed = measure_all([*cases, *linears, *moves], setting, path)
    print(f"{time.perf_counter() - started:.0f} s" + ("" if path is None else f"; results: {path}"))
    if failed:
        sys.exit(1)


def measure_all(
    items: Sequence[Case | LinearCase | Move], setting: Setting, path: Path | None
) -> dict[str, str]:
    """Measure all in order; the reasons of those that failed, by name."""
    ceilings = measure_ceilings(setting.device, setting.dtype, tiny=setting.tiny)
    print_ceilings(setting, ceilings)
    found: dict[str, Found] = {}
    moved: list[Moved] = []
    linear: list[LinearFound] = []
    failed: dict[str, str] = {}
    for item in items:
        try:
            if isinstance(item, Move):
                moved.append(measure_move(item, setting, ceilings))
                print_move(moved[-1])
            elif isinstance(item, LinearCase):
                linear.append(measure_linear(item, setting))
                print_linear(linear[-1], setting)
            else:
                found[item.name] = measure(item, setting, ceilings, found)
                print_case(found[item.name], setting)
        except Exception as error:  # the others go on
            failed[item.name] = f"{type(error).__name__}: {error}"
            print(f"{item.label:{LABEL}}  FAILED: {failed[item.name]}", flush=True)
        release(setting)
        if path is not None:
            write(
                path,
                setting,
                ceilings,
                list(found.values()),
                failed,
                linear=[item.as_dict() for item in linear],
                moves=[item.as_dict() for item in moved],
            )
    return failed


def release(setting: Setting) -> None:
    """Give a case's memory back before the next one asks for its own."""
    gc.collect()
    if setting.device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
