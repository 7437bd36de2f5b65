"""Medians over rounds, and ours against each peer."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

from benchmarks.engines.processes import OURS, Case


class Row(NamedTuple):
    """One engine on one case.

    Attributes:
        case, engine: what ran.
        rounds: runs behind the medians.
        wall_s, ttft_s, per_token_ms: medians; ttft_s is the median of the runs' medians.
        reused_tokens: prompt tokens reused, median.
        prompt_tokens: of so many.
        as_reference: requests whose tokens are the reference's, the least of the rounds.
        requests: of so many.
        wall_ratio, ttft_ratio: ours over this engine's, below 1 where we are faster; None for ours.
        other_cpu_cores: the busiest that the rest of the machine was.
    """

    case: str
    engine: str
    rounds: int
    wall_s: float
    ttft_s: float
    per_token_ms: float
    reused_tokens: int
    prompt_tokens: int
    as_reference: int
    requests: int
    wall_ratio: float | None
    ttft_ratio: float | None
    other_cpu_cores: float


def compare(runs: Sequence[dict[str, Any]], cases: Sequence[Case], engines: Sequence[str]) -> list[Row]:
    """A row for each case and engine that ran, in their order."""
    rows: list[Row] = []
    for case in cases:
        ours = _matching(runs, case, OURS)
        for engine in engines:
            found = _matching(runs, case, engine)
            if found:
                rows.append(_row(case, engine, found, [] if engine == OURS else ours))
    return rows


def _matching(runs: Sequence[dict[str, Any]], case: Case, engine: str) -> list[dict[str, Any]]:
    return [
        run
        for run in runs
        if run["engine"] == engine
        and run["workload"].startswith(f"workload-{case.workload}.")
        and (run["concurrency"], run["cache"]) == (case.concurrency, case.cache)
    ]


def _row(case: Case, engine: str, found: Sequence[dict[str, Any]], ours: Sequence[dict[str, Any]]) -> Row:
    def middle(key: str) -> float:
        return float(median(run[key] for run in found))

    def ratio(key: str) -> float | None:
        return float(median(run[key] for run in ours)) / middle(key) if ours and middle(key) else None

    return Row(
        case=str(case),
        engine=engine,
        rounds=len(found),
        wall_s=middle("wall_s"),
        ttft_s=middle("ttft_median_s"),
        per_token_ms=middle("tpot_mean_ms"),
        reused_tokens=int(middle("cached_tok")),
        prompt_tokens=found[0]["prompt_tok"],
        as_reference=min(run["match_ref"] for run in found),
        requests=found[0]["n"],
        wall_ratio=ratio("wall_s"),
        ttft_ratio=ratio("ttft_median_s"),
        other_cpu_cores=max(run["other_cpu_cores"] for run in found),
    )


def print_table(rows: Sequence[Row]) -> None:
    """Print the rows; the ratios are ours over the other's."""
    print(
        f"\n{'case':42}{'engine':12}{'wall s':>8}{'ttft s':>8}{'ms/tok':>8}{'reused':>16}{'as ref':>9}"
        f"{'wall ratio':>12}{'ttft ratio':>12}{'others':>8}"
    )
    for row in rows:
        wall, ttft = ("" if value is None else f"{value:.2f}" for value in (row.wall_ratio, row.ttft_ratio))
        print(
            f"{row.case:42}{row.engine:12}{row.wall_s:8.1f}{row.ttft_s:8.3f}{row.per_token_ms:8.1f}"
            f"{f'{row.reused_tokens}/{row.prompt_tokens}':>16}{f'{row.as_reference}/{row.requests}':>9}"
            f"{wall:>12}{ttft:>12}{row.other_cpu_cores:8.2f}"
        )
    print("ratios: ours over the engine's, below 1 where ours is faster")
