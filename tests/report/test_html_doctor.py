"""A page straight from the doctor is that of its JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from radixcache.cli import main
from radixcache.report.html import columns, doctor, read_run
from tests.report import pages
from tests.report.test_html_page import data_of

pytest.importorskip("jinja2", reason="the extra html is not installed")


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "secret-trace.jsonl"
    records = [
        {
            "timestamp": 1000 * i,
            "input_length": 6 * 512,
            "hash_ids": [i % 3 * 100 + j * (1 + i % 2) for j in range(6)],
        }
        for i in range(30)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def examined(trace: Path, *options: str) -> tuple[dict[str, Any], Any, str]:
    """The JSON, the data of the page, and the page."""
    report, page = trace.with_name("doctor.json"), trace.with_name("page.html")
    assert main(["doctor", str(trace), "--json", str(report), "--html", str(page), *options]) == 0
    text = page.read_text(encoding="utf-8")
    return json.loads(report.read_text(encoding="utf-8")), data_of(text), text


def test_the_page_holds_what_the_json_holds(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, data, _ = examined(trace)
    assert "radixcache doctor" in capsys.readouterr().out
    ((kind, shown),) = ((entry["kind"], entry["data"]) for entry in data["reports"])
    assert kind == "doctor"
    for name in ("hit_rate", "missed_tokens", "timeline", "curve", "logs"):
        assert shown[name] == report[name]
    assert [f["tokens_lost"] for f in shown["findings"]] == [f["tokens_lost"] for f in report["findings"]]
    (table,) = data["tables"]
    missed = next(c["values"] for c in table["columns"] if c["name"] == "missed_tokens")
    assert sum(missed) == report["prompt_tokens"] - report["cached_tokens"]


def test_it_reads_back_from_its_json(trace: Path) -> None:
    examined(trace)
    assert read_run(trace.with_name("doctor.json")).kind == "doctor"


def test_a_session_of_a_thousand_turns_makes_a_page(tmp_path: Path) -> None:
    trace = tmp_path / "long.jsonl"
    turns = [{"session": "s", "prompt_token_ids": list(range(4 * turn + 4))} for turn in range(1000)]
    trace.write_text("".join(json.dumps(turn) + "\n" for turn in turns))
    report, data, _ = examined(trace)
    assert len(report["tree"]["nodes"]) > 150
    assert data["reports"][0]["data"]["tree"] == report["tree"]
    assert main(["report", str(trace.with_name("doctor.json")), "--html", str(tmp_path / "again.html")]) == 0


def test_reports_of_the_first_version_are_read(tmp_path: Path) -> None:
    new = pages.doctor()
    old = json.loads(json.dumps(new)) | {"schema": "radixcache.doctor/1"}
    old["missed_tokens"]["first_sight"] = old["missed_tokens"].pop("never_seen")
    cause = old["table"]["columns"].index("cause")
    for row in old["table"]["rows"]:
        row[cause] = "first_sight" if row[cause] == "never_seen" else row[cause]
    nested = [{**node, "children": []} for node in old["tree"]["nodes"]]
    for node in nested[1:]:
        nested[node["parent"]]["children"].append(node)
    for node in nested:
        del node["parent"]
        if not node["folded"]:
            del node["folded"]  # as the first version wrote it
    old["tree"] = nested[0]
    files = [pages.save(report, tmp_path / f"{n}.json") for n, report in enumerate((old, new))]
    shown = [replace(read_run(file).report, schema="") for file in files]
    assert shown[0] == shown[1]
    assert shown[0].missed_tokens["never_seen"] > 0


def test_redaction_hides_the_log(trace: Path) -> None:
    assert "secret-trace" in examined(trace)[2]
    assert "secret-trace" not in examined(trace, "--redact")[2]


def test_a_long_table_keeps_what_missed_most(trace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (columns, doctor):
        monkeypatch.setattr(module, "MOST_ROWS", 4)
    report, data, _ = examined(trace)
    names = report["table"]["columns"]
    prompt, cached, line = (names.index(name) for name in ("prompt_tokens", "cached_tokens", "line"))
    worst = sorted(report["table"]["rows"], key=lambda row: row[cached] - row[prompt])[:4]
    (table,) = data["tables"]
    assert (table["rows"], table["total"]) == (4, 30)
    lines = next(c["values"] for c in table["columns"] if c["name"] == "line")
    assert lines == sorted(row[line] for row in worst)


@pytest.mark.parametrize("option", ["--html", "--fix", "--what-if", "--pricing"])
def test_the_proof_of_a_template_takes_no_options_of_a_diagnosis(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--template", "x.jinja", option, str(tmp_path / "file")]) == 2
    assert f"{option} is for the diagnosis of a log" in capsys.readouterr().err
