"""What is printed and written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import RESULTS, write_results
from benchmarks.kernels.ceilings import Ceilings
from benchmarks.kernels.linear import LinearFound
from benchmarks.kernels.measure import Found, Setting
from benchmarks.kernels.moves import Moved
from benchmarks.kernels.timing import Timing
from benchmarks.random_llama import device_label

LABEL = 34  # characters of the first column
SIGNS = {
    "copy_fraction": "of copy bandwidth",
    "over_unshared": "x the unshared kernel",
    "over_bound": "x the bytes-moved bound",
    "over_sdpa": "x scaled_dot_product_attention",
    "over_base": "x plain",
}


def results_path(device: torch.device) -> Path:
    """benchmarks/results/kernels-DEVICE.json."""
    slug = re.sub(r"[^a-z0-9]+", "-", device_label(device).lower()).strip("-")
    return RESULTS / f"kernels-{slug}.json"


def print_ceilings(setting: Setting, ceilings: Ceilings) -> None:
    """The device, its limits and the table's head."""
    shape = setting.shape
    print(
        f"{device_label(setting.device)}: copy {ceilings.copy_bytes_per_s / 1e9:,.0f} GB/s, "
        f"read {ceilings.read_bytes_per_s / 1e9:,.0f} GB/s, "
        f"{str(setting.dtype).removeprefix('torch.')} products {ceilings.matmul_flops / 1e12:,.1f} TFLOP/s; "
        f"{shape.heads} query heads, {shape.kv_heads} KV heads of {shape.head_dim}"
    )
    print(
        f"{'case':{LABEL}}{'ms':>9}{'GB':>8}{'copy':>7}{'bound':>7}"
        f"{'unshared':>9}{'sdpa':>8}{'flex':>8}   goal"
    )


def print_case(found: Found, setting: Setting) -> None:
    """A line of the table, and a line for each peer that did not take part."""
    measures = found.measures
    cells = [
        f"{found.timing.median_s * 1e3:9.3f}{found.bytes_moved / 1e9:8.3f}",
        f"{100 * measures['copy_fraction']:6.1f}%{measures['over_bound']:7.2f}",
        _ratio(measures.get("over_unshared"), 9),
        _ratio(measures.get("over_sdpa"), 8),
        _ratio(measures.get("over_flex"), 8),
    ]
    goals = [f"right to {found.error:.0e}"] if setting.tiny else []
    for goal in () if setting.tiny else found.case.goals:
        value = measures.get(goal.measure)
        if value is None:
            goals.append(f"{goal.measure}: not measured")
            continue
        sign = "<=" if goal.at_most else ">="
        outcome = "met" if goal.met(value) else "MISSED"
        goals.append(f"{value:.2f} {sign} {goal.value} {SIGNS[goal.measure]}: {outcome}")
    print(f"{found.case.label:{LABEL}}{''.join(cells)}   {'; '.join(goals)}", flush=True)
    for name, theirs in found.peers.items():
        if not isinstance(theirs, Timing):
            print(f"{'':{LABEL}}  {name}: {theirs}")


def print_move(moved: Moved) -> None:
    """A line of the table."""
    print(
        f"{moved.move.label:{LABEL}}{moved.timing.median_s * 1e3:9.3f}{moved.bytes_moved / 1e9:8.3f}"
        f"{100 * moved.copy_fraction:6.1f}%{1 / moved.copy_fraction:7.2f}",
        flush=True,
    )


def print_linear(found: LinearFound, setting: Setting) -> None:
    """A line of the table for all products of a step together, and one that tells them apart."""
    goal = found.case.goal
    outcome = "met" if goal.met(found.over_torch) else "MISSED"
    verdict = "" if setting.tiny else f"   {found.over_torch:.2f} >= {goal.value} x torch's linear: {outcome}"
    print(f"{found.case.label:{LABEL}}{found.seconds * 1e3:9.3f}{verdict}")
    parts = (
        f"{name} {one.torch.median_s / one.ours.median_s:.2f}x ({one.tile.rows} x {one.tile.outs})"
        for name, one in found.products.items()
    )
    print(f"{'':{LABEL}}  {', '.join(parts)}", flush=True)


def _ratio(value: float | None, width: int) -> str:
    return " " * width if value is None else f"{value:{width - 1}.2f}x"


def write(
    path: Path, setting: Setting, ceilings: Ceilings, found: list[Found], failed: dict[str, str], **more: Any
) -> None:
    """The results file, whole, with the machine and its versions; called after each case."""
    write_results(
        path,
        {
            "device": device_label(setting.device),
            "cuda": torch.version.cuda,
            "driver_capability": None
            if setting.device.type != "cuda"
            else list(torch.cuda.get_device_capability(setting.device)),
            "dtype": str(setting.dtype).removeprefix("torch."),
            "shape": {
                "heads": setting.shape.heads,
                "kv_heads": setting.shape.kv_heads,
                "head_dim": setting.shape.head_dim,
            },
            "tiny": setting.tiny,
            "ceilings": {
                "copy_bytes_per_s": ceilings.copy_bytes_per_s,
                "read_bytes_per_s": ceilings.read_bytes_per_s,
                "matmul_flops": ceilings.matmul_flops,
            },
            "cases": [item.as_dict() for item in found],
            "failed": failed,
            **more,
        },
        quiet=True,
    )
