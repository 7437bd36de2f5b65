"""`radixcache report` from the command line: what it writes, prints and refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from radixcache.cli import main
from tests.report import pages
from tests.report.planted import KEPT_FIELDS, planted
from tests.report.test_html_page import all_reports, data_of

pytest.importorskip("jinja2", reason="the extra html is not installed")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        code = main(list(map(str, arguments)))
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_a_page_is_written_by_the_command(run: Run, tmp_path: Path) -> None:
    report, records = pages.replay()
    files = [pages.save(report, tmp_path / "replay.json"), pages.save(pages.curve(), tmp_path / "curve.json")]
    requests = pages.save_records(records, tmp_path / "requests.jsonl")
    target = tmp_path / "page.html"
    assert run("report", *files, "--requests", requests, "--html", target) == (0, "", "")
    data = data_of(target.read_text(encoding="utf-8"))
    assert [entry["kind"] for entry in data["reports"]] == ["replay", "curve"]
    assert data["reports"][0]["data"]["runs"] == list(report["runs"])
    assert data["tables"][0]["rows"] == len(records)


@pytest.mark.parametrize("number", range(4))
def test_the_terminal_shows_what_the_commands_show(run: Run, tmp_path: Path, number: int) -> None:
    report = all_reports()[number]
    code, out, err = run("report", pages.save(report, tmp_path / "run.json"))
    assert (code, err) == (0, "")
    shown = (f"{report.get('hit_rate', 0):.2%}", "cache off", "knee", "clairvoyant")[number]
    assert shown in out


def test_ansi_codes_from_a_file_are_inert_on_the_terminal(run: Run, tmp_path: Path) -> None:
    hostile = ["\x1b]0;owned\x07 \x1b[31mred \u202e \ud800"]
    replay, records = pages.replay(6)
    lines = pages.save_records(planted(records, hostile), tmp_path / "r.jsonl")
    for report in (pages.doctor(12), replay, pages.curve(by="namespace"), pages.curve(), pages.simulation()):
        for kept in (KEPT_FIELDS, ("schema", "columns")):
            file = pages.save(planted(report, hostile, kept), tmp_path / "run.json")
            code, out, err = run("report", file, "--requests", lines)
            assert (code, err) == (0, "")
            assert not set("\x1b\x07\u202e") & set(out)


def broken(change: Callable[[dict[str, Any]], Any], report: dict[str, Any]) -> str:
    change(report)
    return json.dumps(report)


CURVE: tuple[tuple[Callable[[dict[str, Any]], Any], str], ...] = (
    (
        lambda r: r["curves"][0].update(unbounded_hit_rate=-0.1),
        "unbounded_hit_rate is -0.1, not between 0 and 1",
    ),
    (lambda r: r.pop("logs"), "run.json: logs: "),
    (lambda r: r.update(requests="3"), "run.json: requests: input should be a valid int"),
    (lambda r: r["points"][2].pop("hit_rate"), "run.json: points[2].hit_rate: "),
)
DOCTOR: tuple[tuple[Callable[[dict[str, Any]], Any], str], ...] = (
    (lambda r: r["table"]["columns"].pop(), "run.json: table: "),
    (lambda r: r["table"]["rows"][1].__setitem__(5, "x"), "rows[1]: prompt_tokens is 'x'"),
    (lambda r: r["missed_tokens"].update(bad=1), "missed_tokens: 'bad' is no cause"),
    (lambda r: r.update(cached_tokens=r["cached_tokens"] - 1), "tokens have a cause, but "),
    (lambda r: r.update(hit_rate=1e308), "run.json: hit_rate is 1e+308, not between 0 and 1"),
    (lambda r: r["findings"][0].update(money={"amount": 1}), "findings[0].money.currency: "),
    (lambda r: r["tree"]["nodes"][1].pop("tokens"), "tree.nodes[1].tokens: "),
    (lambda r: r["tree"]["nodes"][2].update(parent=2), "nodes[2].parent must be an earlier node, got 2"),
    (lambda r: r["tree"]["nodes"].clear(), "tree: nodes must not be empty"),
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "run.json: is not JSON: "),
        ('{"schema": NaN}', "run.json: is not JSON: NaN is not a JSON number"),
        ("[" * 100_000, "run.json: is not JSON: "),
        ("[]", "run.json: schema is None; one of radixcache.replay/1, "),
        ('{"schema": "radixcache.plan/1"}', "run.json: schema is 'radixcache.plan/1'; one of"),
        ('{"schema": ["x"]}', "run.json: schema is ['x']; one of"),
        *((broken(change, pages.curve()), message) for change, message in CURVE),
        *((broken(change, pages.doctor(3)), message) for change, message in DOCTOR),
    ],
    ids=lambda value: value[:40],
)
def test_bad_reports_are_one_line(run: Run, tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "run.json"
    file.write_text(text)
    code, out, err = run("report", file, "--html", tmp_path / "page.html")
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "r.jsonl:3: is not a record of a request: "),
        ("7", "r.jsonl:3: is not a record of a request: "),
        ("{}", "r.jsonl:3: run: "),
        ('{"policy": "lru"}', "r.jsonl:3: capacity_blocks: "),
    ],
)
def test_bad_records_are_one_line(run: Run, tmp_path: Path, line: str, message: str) -> None:
    report, records = pages.replay(1)
    file = pages.save(report, tmp_path / "run.json")
    lines = pages.save_records(records, tmp_path / "r.jsonl")
    lines.write_text(lines.read_text() + line + "\n")
    code, out, err = run("report", file, "--requests", lines)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nowhere.json"], "nowhere.json: no such file"),
        (["{file}", "--requests", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["{file}", "--redact"], "--redact is for the page"),
        (["{file}", "--html", "/nowhere/page.html"], "/nowhere/page.html cannot be written"),
        (["{folder}"], "is a folder"),
    ],
)
def test_bad_options_are_one_line(run: Run, tmp_path: Path, options: list[str], message: str) -> None:
    file = pages.save(pages.curve(), tmp_path / "curve.json")
    code, out, err = run("report", *(part.format(file=file, folder=tmp_path) for part in options))
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_page_needs_no_torch(tmp_path: Path) -> None:
    file = pages.save(pages.doctor(3), tmp_path / "run.json")
    code = (
        "import sys; from radixcache.cli import main; "
        f"code = main(['report', {str(file)!r}, '--html', {str(tmp_path / 'page.html')!r}]); "
        "print([m for m in ('torch', 'transformers', 'matplotlib', 'pandas') if m in sys.modules], code)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("[] 0\n", "")
