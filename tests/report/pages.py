"""Reports to render: small, made by hand or by the code that makes them, and as large as one likes."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

from radixcache.curve.results import CurveRequest, make_curves
from radixcache.replay.results import DifferingRequest, ReplayReport, RequestRecord, summarise
from radixcache.simulate.results import SimulateReport, SimulateResult
from radixcache.workload.settings import SimulateSettings
from radixcache.workload.workload import Workload
from tests.report.diagnoses import doctor
from tests.simulate.plain_lru import call

__all__ = ["HOSTILE", "curve", "doctor", "replay", "save", "save_records", "simulation"]

HOSTILE = (
    "</script><img src=x onerror=\"document.title='owned'\"><!--<script>",
    "\x1b[31mred\x1b[0m \u202eevil\u202c \u2028 \ud800 &lt; $x$ %{y}",
    '"><svg onload=alert(1)>',
)


def replay(requests: int = 60, seed: int = 2) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A comparison of two runs, and the records of both."""
    rng = random.Random(seed)
    runs, records = [], []
    for cache in ("off", "on"):
        own = []
        for index in range(requests):
            prompt = 300 + index * 7 % 900
            cached = 0 if cache == "off" else prompt * (index % 10) // 10
            reason = "cache_off" if cache == "off" else ("diverged", "never_seen")[index % 2]
            own.append(
                RequestRecord(
                    run=cache,
                    index=index,
                    source="logs/chat.jsonl",
                    line=index + 1,
                    session=f"s{index // 5}",
                    namespace="",
                    prompt_tokens=prompt,
                    cached_tokens=cached,
                    misses={reason: prompt - cached},
                    ttft_s=(prompt - cached + 20) * rng.uniform(0.8e-3, 1.2e-3),
                    queue_s=0.0,
                    latency_s=(prompt - cached + 200) * 1e-3,
                    output_ids=(1, 2, 3),
                    finish_reason="length",
                )
            )
        runs.append(
            summarise(
                cache,
                own,
                prefill_tokens=sum(r.prompt_tokens - r.cached_tokens for r in own),
                decode_tokens=3 * requests,
                wall_s=sum(r.latency_s or 0.0 for r in own),
                block_waste=0.031,
                control_share=0.004,
                preemptions=0,
                batch_invariant=True,
            )
        )
        records += own
    differing = DifferingRequest(3, "logs/chat.jsonl", 4, 1, (5, 6), (7,), 0.02, 0.25, "rounding")
    report = ReplayReport(
        schema="radixcache.replay/1",
        logs=("logs/chat.jsonl",),
        requests=requests,
        sessions=-(-requests // 5),
        bad_lines=0,
        identical_outputs=False,
        differing_requests=(differing,),
        runs=tuple(runs),
        model="smollm2-135m",
        dtype="float32",
        device="cpu",
        block_size=16,
        cache_tokens=None,
        max_tokens=16,
        arrivals="closed",
        concurrency=1,
        interleave=None,
        versions={"python": "3.11.9", "torch": "2.13.0"},
    )
    return asdict(report), [asdict(record) for record in records]


def curve(**options: Any) -> dict[str, Any]:
    """A curve with a knee and the clairvoyant bound."""
    calls = [call([turn * 7 % 40, *range(turn % 11 * 5)], namespace=f"t{turn % 3}") for turn in range(300)]
    request = CurveRequest(block_sizes=(1,), **options)
    report = make_curves(Workload(1, calls), request, SimulateSettings(), logs=["logs/trace.jsonl"])
    return asdict(report)


def simulation() -> dict[str, Any]:
    """Two policies and the bound at four capacities."""
    results = []
    for step, capacity in enumerate((100, 1000, 10_000, None)):
        for policy, rate in (("lru", 0.1), ("s3fifo", 0.12), ("clairvoyant", 0.15)):
            cached = int(1_000_000 * (rate + 0.15 * step))
            results.append(
                SimulateResult(
                    policy=policy,
                    capacity_blocks=capacity,
                    capacity_tokens=None if capacity is None else capacity * 16,
                    block_size=16,
                    requests=500,
                    prompt_tokens=1_000_000,
                    cached_tokens=cached + 5,
                    cached_tokens_whole_blocks=cached,
                    hit_rate=(cached + 5) / 1_000_000,
                    hit_rate_whole_blocks=cached / 1_000_000,
                    gap_closed=None,
                    evictions=7,
                    too_large=0,
                    waited=0,
                )
            )
    return asdict(
        SimulateReport(
            schema="radixcache.simulate/1",
            logs=("logs/trace.jsonl",),
            requests=500,
            sessions=20,
            bad_lines=0,
            prompt_tokens=1_000_000,
            unit_tokens=1,
            tokenizer=None,
            arrivals="closed",
            speed=1.0,
            prefill_speed=1000.0,
            decode_speed=50.0,
            interleave=None,
            repeat=1,
            namespace_by=None,
            outputs=False,
            whole_blocks=False,
            results=tuple(results),
            versions={"python": "3.11.9"},
        )
    )


def save(value: dict[str, Any], path: Path) -> Path:
    """Write a report as the commands do."""
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def save_records(records: list[dict[str, Any]], path: Path) -> Path:
    """Write records as --requests-out does."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path
