"""A simulation's table: every capacity and policy, both rules, and how far the best possible is."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from radixcache.report.terminal.simulate import print_simulations
from radixcache.report.text import amount
from radixcache.simulate.results import SimulateReport, SimulateResult, with_gaps_closed


def result(policy: str, capacity: int | None, served: int, whole: int, **changes: int) -> SimulateResult:
    return replace(
        SimulateResult(
            policy=policy,
            capacity_blocks=capacity,
            capacity_tokens=None if capacity is None else 16 * capacity,
            block_size=16,
            requests=10,
            prompt_tokens=1000,
            cached_tokens=served,
            cached_tokens_whole_blocks=whole,
            hit_rate=served / 1000,
            hit_rate_whole_blocks=whole / 1000,
            gap_closed=None,
            evictions=5,
            too_large=0,
            waited=0,
        ),
        **changes,
    )


RESULTS = [
    result("lru", 300, 210, 200, too_large=2),
    result("auto", 300, 310, 300, waited=3),
    result("worse", 300, 160, 150),
    result("clairvoyant", 300, 390, 400),
    result("lru", None, 655, 654),
    result("auto", None, 655, 654),
    result("worse", None, 655, 654),
    result("clairvoyant", None, 650, 654),
]


def report(**changes: object) -> SimulateReport:
    made = SimulateReport(
        schema="radixcache.simulate/1",
        logs=("log",),
        requests=10,
        sessions=4,
        bad_lines=1,
        prompt_tokens=1000,
        unit_tokens=1,
        tokenizer="smoll\x1b[31m",
        arrivals="closed",
        speed=1.0,
        prefill_speed=1e4,
        decode_speed=50.0,
        interleave=32,
        repeat=2,
        namespace_by=None,
        outputs=True,
        whole_blocks=False,
        results=tuple(with_gaps_closed(RESULTS)),
        versions={},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def printed(made: SimulateReport) -> str:
    out = io.StringIO()
    print_simulations(made, Console(file=out, width=160))
    return out.getvalue()


def test_shares_of_the_gap() -> None:
    shares = [r.gap_closed for r in with_gaps_closed(RESULTS)]
    assert shares == [0.0, 0.5, -0.25, 1.0, None, None, None, None]
    assert with_gaps_closed(RESULTS[:3])[1].gap_closed is None


def test_the_table() -> None:
    text = printed(report())
    lines = text.splitlines()
    (served,) = (line for line in lines if "as served" in line and "300" in line)
    assert [cell for cell in served.split() if "%" in cell] == ["21.00%", "31.00%", "16.00%"]
    whole = next(line for line in lines if "whole blocks" in line)
    assert "+50% of the gap" in whole
    assert "-25% of the gap" in whole
    assert "40.00%" in whole
    assert "unbounded" in text
    assert "4.80 k" in text
    assert "lru, 300 blocks of 16: 2 prompts were larger than the cache" in text
    assert "auto, 300 blocks of 16: 3 requests waited for room" in text
    for fact in ("2 times over", "32 sessions in turns", "answers cached", "1 bad line skipped"):
        assert fact in text
    assert "\x1b[31m" not in text


def test_whole_blocks_alone_and_by_time() -> None:
    text = printed(report(whole_blocks=True, arrivals="timestamps", speed=2.0))
    assert "as served" not in text
    assert "by timestamp at 2x, prefill 10,000 and decode 50 tokens a second" in text


def test_amounts() -> None:
    assert [amount(n) for n in (0, 999, 1000, 51_200, 512_000, 25_600_000, 1_600_000_000)] == [
        "0",
        "999",
        "1.00 k",
        "51.2 k",
        "512 k",
        "25.6 M",
        "1.60 G",
    ]
