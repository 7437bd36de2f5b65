"""Curves and plans on a terminal and as a picture."""

from __future__ import annotations

import io
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from radixcache.curve.results import CurvePoint, CurveReport, CurveRequest, CurveSummary, make_curves
from radixcache.errors import MissingExtraError
from radixcache.plan.plan import LogPlan, Plan
from radixcache.report.png import check_plotting, write_png
from radixcache.report.terminal.curve import print_curves
from radixcache.report.terminal.plan import print_plan
from radixcache.workload.settings import SimulateSettings
from radixcache.workload.workload import Call, Workload
from tests.simulate.plain_lru import call

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("file", "section", "schema"),
    [
        ("curve-json.md", "Report", CurveReport),
        ("curve-json.md", "Curve", CurveSummary),
        ("curve-json.md", "Point", CurvePoint),
        ("plan-json.md", "Plan", Plan),
        ("plan-json.md", "Log", LogPlan),
    ],
)
def test_documents_name_every_field_in_order(file: str, section: str, schema: Any) -> None:
    text = (DOCS / file).read_text(encoding="utf-8")
    part = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert part is not None
    assert re.findall(r"^\| `(\w+)`", part[1], re.MULTILINE) == [field.name for field in fields(schema)]


def workload() -> Workload:
    calls: list[Call] = []
    for turn in range(300):
        prompt = [turn * 7 % 40, *range(turn % 11 * 5)]
        calls.append(call(prompt, namespace=f"tenant-{turn % 3}"))
    return Workload(1, calls)


def report(**options: object) -> CurveReport:
    request = CurveRequest(block_sizes=(1,), clairvoyant=False)
    return make_curves(
        workload(),
        replace(request, **options),  # type: ignore[arg-type]
        SimulateSettings(),
        logs=["folder/some.jsonl"],
        model="\x1b[31mred",
    )


def printed(found: CurveReport, encoding: str = "utf-8") -> str:
    buffer = io.BytesIO()
    file = io.TextIOWrapper(buffer, encoding=encoding, errors="strict")
    print_curves(found, Console(file=file, width=80))
    file.flush()
    return buffer.getvalue().decode(encoding)


def with_bound(found: CurveReport, above: float = 0.1) -> CurveReport:
    table = found.curves[0].table_blocks
    points = [
        replace(p, clairvoyant_hit_rate=p.hit_rate + above) if p.capacity_blocks in table else p
        for p in found.points
    ]
    return replace(found, points=tuple(points))


def test_one_curve_has_chart_knee_and_table() -> None:
    found = report(bytes_per_token=10**6)
    text = printed(found)
    (curve,) = found.curves
    assert curve.knee_blocks is not None
    assert max(map(len, text.splitlines())) <= 80
    assert any("⠀" < c <= "⣿" for c in text)
    assert "o knee" in text
    (row,) = (line for line in text.splitlines() if line.rstrip().endswith(" knee") and "%" in line)
    assert row.split()[0] == f"{curve.knee_blocks:,}"
    assert row.split()[2] == f"{curve.knee_blocks / 1000:#.3g}"
    assert any(line.rstrip().endswith("%   all") for line in text.splitlines())
    assert "clairvoyant" not in text
    assert "some.jsonl" in text
    assert "\x1b" not in text


def test_the_bound_stands_above_the_curve() -> None:
    text = printed(with_bound(report()))
    assert "· · clairvoyant" in text
    (row,) = (line for line in text.splitlines() if line.rstrip().endswith("%   all"))
    assert row.split()[4] == "10.00%"


def test_a_terminal_without_braille_gets_plain_characters() -> None:
    for found in (with_bound(report()), report(sample=0.9), report(block_sizes=(1, 2))):
        assert "***" in printed(found, "ascii")


def test_several_curves_have_a_row_each_and_a_sum() -> None:
    found = report(by="namespace")
    text = printed(found)
    rows = [line for line in text.splitlines() if "tenant-" in line]
    assert [row.split()[0] for row in rows] == ["a", "b", "c"] or sorted(row.split()[0] for row in rows) == [
        "a",
        "b",
        "c",
    ]
    cached = sum(curve.unbounded_cached_tokens for curve in found.curves)
    prompt = sum(curve.prompt_tokens for curve in found.curves)
    (total,) = (line for line in text.splitlines() if line.split()[:1] == ["all"])
    assert f"{cached / prompt:.2%}" in total
    assert max(map(len, text.splitlines())) <= 80


def test_block_sizes_have_a_row_each() -> None:
    text = printed(report(block_sizes=(1, 2, 4)))
    assert [line.split()[:2] for line in text.splitlines() if line.split()[:1] in (["a"], ["b"], ["c"])] == [
        ["a", "1"],
        ["b", "2"],
        ["c", "4"],
    ]


def test_an_estimate_says_so() -> None:
    text = printed(report(sample=0.9))
    assert "Estimated from 0.9 of the blocks" in text
    assert "+/-" in text


def test_a_log_that_repeats_nothing() -> None:
    found = make_curves(
        Workload(1, [call([1, 2]), call([3])]), CurveRequest((1,), clairvoyant=False), SimulateSettings()
    )
    assert "nothing can be reused" in printed(found)


@pytest.mark.parametrize("options", [{}, {"by": "namespace"}, {"sample": 0.9}])
def test_a_picture(tmp_path: Path, options: dict[str, object]) -> None:
    pytest.importorskip("matplotlib")
    target = tmp_path / "curve.png"
    found = report(**options)
    write_png(with_bound(found) if not options else found, target)
    header = target.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(header[16:20]), int.from_bytes(header[20:24])) == (1600, 1000)
    assert list(tmp_path.iterdir()) == [target]


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radixcache.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'--png needs matplotlib: pip install "radixcache\[plot\]"'):
        check_plotting()


PLAN = Plan(
    schema="radixcache.plan/1",
    model="some-model",
    dtype="fp8",
    layers=80,
    kv_heads=8,
    head_dim=128,
    sliding_layers=0,
    sliding_window=0,
    max_context=8192,
    bytes_per_token=163_840,
    gpu_memory=320 * 10**9,
    weights=141 * 10**9,
    weights_from="estimate",
    cache_memory=179 * 10**9,
    tokens=1_092_529,
    context=32_768,
    sequence_memory=5_368_709_120,
    sequence_memory_windowed=None,
    sequences=33,
)


def plan_text(plan: Plan) -> str:
    console = Console(file=io.StringIO(), width=80)
    print_plan(plan, console)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_a_plan() -> None:
    text = plan_text(PLAN)
    for shown in ("163,840 bytes", "80 layers x 8 KV heads x 128 x 2", "1,092,529", "5.37 GB", "33"):
        assert shown in text
    assert "estimated from its shape" in text
    assert "states a context of 8,192 tokens, less than asked for" in text
    assert "hit rate" not in text


def test_a_plan_that_does_not_work_says_why() -> None:
    assert "weights alone fill this memory" in plan_text(replace(PLAN, gpu_memory=80 * 10**9, sequences=0))
    assert "Not one sequence" in plan_text(replace(PLAN, sequences=0))
    assert "unknown, counted as nothing" in plan_text(replace(PLAN, weights=None, weights_from=None))


def test_a_plan_with_a_log() -> None:
    log = LogPlan(("a/b.jsonl",), 10, 1000, 16, 68_283, 250, 0.25, 99_000, 10**12, 0.5)
    text = plan_text(replace(PLAN, log=log))
    assert "25.00%" in text
    assert "with 1,000 GB, 99,000 blocks" in text
