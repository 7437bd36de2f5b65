"""Reports on narrow terminals: every number stays whole, and what is to be copied stays one line."""

from __future__ import annotations

import io
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from radixcache.doctor.diagnosis.schema import Edit, Finding, Where
from radixcache.plan.plan import Plan
from radixcache.pricing import PricedProvider, PricedSelfHosted, PricingReport
from radixcache.report.html.read import read_run
from radixcache.report.html.records import RequestLog, read_requests
from radixcache.report.terminal.doctor import print_diagnosis
from radixcache.report.terminal.plan import print_plan
from radixcache.report.terminal.pricing import money, print_pricing
from radixcache.report.terminal.runs import print_run
from radixcache.report.terminal.simulate import print_simulations
from radixcache.report.text import percent
from tests.report import pages
from tests.report.test_simulation_report import report, result

WIDTHS = (80, 60)
RECORDS = pages.replay()[1]


def console(width: int) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=width), out


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("policies", [3, 5, 9])
def test_a_simulation_shows_every_rate(width: int, policies: int) -> None:
    names = ["lru", "auto", "clairvoyant", "density", "s3fifo", "gdsf", "arc", "slru", "lfu"][:policies]
    capacities = (None, 2_000_000_000, 10)
    results = tuple(
        result(name, capacity, 100 + 7 * place, 200 + 11 * place + (capacity is None))
        for capacity in capacities
        for place, name in enumerate(names)
    )
    where, out = console(width)
    print_simulations(report(results=results), where)
    text = out.getvalue()
    assert "…" not in text
    for one in results:
        assert f"{one.hit_rate_whole_blocks:.2%}" in text
        assert one.policy == "clairvoyant" or f"{one.hit_rate:.2%}" in text
    assert "2,000,000,000" in text
    assert "unbounded" in text
    assert max(map(len, text.splitlines())) <= width


def test_bars_are_the_first_to_go() -> None:
    texts = []
    for width in (160, 120, 60):
        where, out = console(width)
        print_simulations(report(), where)
        texts.append(out.getvalue())
    assert ["█" in text for text in texts] == [True, False, False]
    assert ["of the gap" in text for text in texts] == [True, True, False]


def test_what_many_caches_have_in_common_is_said_once() -> None:
    results = tuple(
        result(name, capacity, 100, 100, too_large=900 - capacity)
        for capacity in (10, 20, 30, 40, 50)
        for name in ("lru", "auto", "arc", "gdsf")
    )
    where, out = console(100)
    print_simulations(report(results=results), where)
    notes = [line for line in out.getvalue().splitlines() if "larger than the cache" in line]
    assert len(notes) == 1
    assert "up to 890 in 10 blocks of 16" in notes[0]


def numbers(text: str) -> list[str]:
    return re.findall(r"\d[\d,.]*%?", text)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "made",
    [pages.doctor(), pages.replay()[0], pages.curve(), pages.curve(by="namespace"), pages.simulation()],
    ids=["doctor", "replay", "curve", "curves", "simulation"],
)
def test_no_report_cuts_a_number(made: dict[str, Any], width: int, tmp_path: Path) -> None:
    run = read_run(pages.save(made, tmp_path / "run.json"))
    log = read_requests([pages.save_records(RECORDS, tmp_path / "r.jsonl")])
    where, out = console(width)
    print_run(run, log, where)
    assert not re.search(r"\d…", out.getvalue())
    wide, whole = console(300)
    print_run(run, RequestLog((), ()), wide)
    lines = [line for line in out.getvalue().splitlines() if "│" in line or "%" in line]
    known = set(numbers(whole.getvalue() + " ".join(str(r) for r in RECORDS)))
    assert lines
    assert all(number in known for line in lines for number in numbers(line) if number.endswith("%"))


@pytest.mark.parametrize("width", WIDTHS)
def test_a_plan_and_prices_are_whole(width: int) -> None:
    where, out = console(width)
    plan = Plan(
        schema="",
        model="org/a-model-with-a-long-name",
        dtype="bfloat16",
        layers=80,
        kv_heads=None,
        head_dim=None,
        sliding_layers=40,
        sliding_window=4096,
        max_context=131_072,
        bytes_per_token=1_327_104,
        gpu_memory=1_128 * 10**9,
        weights=141 * 10**9,
        weights_from="estimate",
        cache_memory=987 * 10**9,
        tokens=743_725,
        context=1_048_576,
        sequence_memory=10**12,
        sequence_memory_windowed=10**11,
        sequences=0,
    )
    print_plan(plan, where)
    own = PricedSelfHosted(2.0, 5000.0, 900, 0.145, 0.0123, 0.13, 0.9, 10.0, 5.0)
    provider = PricedProvider(
        *("A provider with a long name, 5 minutes", 12_345.678, 23_456.789, 1e-17, -3.2e-16),
        *(1, 2, 3, 4, 1.0, 1.0, 1.0, 1.0, "rules", "2026-11-28", "s", "r", "note"),
    )
    print_pricing(PricingReport("USD", 1.0, 10, 5, (provider,), own, ("Assumed.",)), where)
    text = out.getvalue()
    assert "…" not in text
    assert "-0.0" not in text
    for number in ("1,327,104", "743,725", "$12,346", "$23,457", "$0.1450", "$0.0123", "90.0%"):
        assert number in text


def test_what_rounds_to_nothing_has_no_sign() -> None:
    assert [percent(share) for share in (-3.2e-16, -0.0004, -0.0006, 0.5)] == [
        "0.0%",
        "0.0%",
        "-0.1%",
        "50.0%",
    ]
    assert [money(amount, "USD") for amount in (-1e-9, -0.5, 0.0)] == ["$0.0000", "-$0.5000", "$0.00"]


@pytest.mark.parametrize("width", WIDTHS)
def test_an_edit_is_one_line_that_a_shell_takes(width: int, tmp_path: Path) -> None:
    regex = "move:" + r"It is \d+:\d\d o'clock, and so on\.\n" * 30 + ":last"
    run = read_run(pages.save(pages.doctor(), tmp_path / "run.json"))
    finding = Finding("x-1", "volatile_text", "A date changes", "Move it.", Where(), 5, 100)
    finding = replace(finding, edit=Edit(regex, "moves it"), gain_tokens=90, hit_rate_after=0.9)
    what_if = {
        "edits": [regex, "drop:nothing"],
        "requests_changed": [7, 0],
        "prompt_tokens": 100,
        "cached_tokens": 50,
        "hit_rate": 0.5,
        "gain_tokens": 0,
    }
    where, out = console(width)
    print_diagnosis(replace(run.report, findings=[finding], what_if=what_if), where)
    (line,) = (line for line in out.getvalue().splitlines() if "--what-if" in line)
    assert shlex.split(line) == ["--what-if", regex]
    shown = [line.strip() for line in out.getvalue().splitlines()]
    assert regex in shown
    assert shown[shown.index("drop:nothing") + 1] == f"matches nothing in {run.report.requests} requests"
