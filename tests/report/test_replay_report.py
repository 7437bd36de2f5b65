"""The report of a replay: terminal, JSON, and its documentation."""

from __future__ import annotations

import io
import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from radixcache.cache.misses import MissReason
from radixcache.files import check_writable, writing
from radixcache.replay.replay import ReplayOutcome, replay
from radixcache.replay.results import DifferingRequest, ReplayReport, RequestRecord, RunSummary
from radixcache.replay.settings import ReplaySettings
from radixcache.report.json import write_report, write_requests
from radixcache.report.terminal.replay import _MEANINGS, print_report
from radixcache.report.text import ratio, seconds, visible
from tests.replay.fake_engine import LONGEST, Bench, request

DOCUMENT = Path(__file__).parents[2] / "docs" / "replay-json.md"


@pytest.fixture(scope="module")
def outcome() -> ReplayOutcome:
    requests = [request(i, [*range(40), 100 + i], session=f"s{i}") for i in range(6)]
    requests.append(request(6, range(LONGEST)))
    return replay(requests, Bench().target, ReplaySettings(), logs=["a.jsonl"], bad_lines=2)


def printed(outcome: ReplayOutcome, width: int = 110, **console: Any) -> str:
    out = io.StringIO()
    print_report(outcome.report, outcome.records, Console(file=out, width=width, **console))
    return out.getvalue()


def documented(section: str) -> list[str]:
    text = DOCUMENT.read_text(encoding="utf-8")
    table = re.search(rf"^## {section}\n\n(.*?)(?=\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    assert table is not None
    return re.findall(r"^\| `(\w+)`", table[1], re.MULTILINE)


@pytest.mark.parametrize(
    ("section", "schema"),
    [
        ("Report", ReplayReport),
        ("Run", RunSummary),
        ("Record", RequestRecord),
        ("Differing request", DifferingRequest),
    ],
)
def test_document_names_every_field_in_order(section: str, schema: Any) -> None:
    assert documented(section) == [field.name for field in fields(schema)]


def test_document_and_terminal_name_every_reason() -> None:
    reasons = [str(reason) for reason in MissReason]
    assert sorted(documented("Reasons")) == sorted(reasons) == sorted(_MEANINGS)


def test_json_report(tmp_path: Path, outcome: ReplayOutcome) -> None:
    path = tmp_path / "report.json"
    write_report(outcome.report, path)
    report = json.loads(path.read_text(encoding="utf-8"))
    assert list(report) == documented("Report")
    assert report["requests"] == 7
    assert report["identical_outputs"] is True
    off, on = report["runs"]
    assert list(on) == documented("Run")
    assert (off["cache"], on["cache"]) == ("off", "on")
    assert list(on["ttft_s"]) == ["p50", "p90", "p99"]
    assert on["cached_tokens"] + sum(on["missed_tokens"].values()) == on["prompt_tokens"] == 246
    assert on["hit_rate"] == on["cached_tokens"] / on["prompt_tokens"]
    assert (on["requests"], on["refused"]) == (6, 1)


def test_requests_out_has_a_line_a_request_and_run(tmp_path: Path, outcome: ReplayOutcome) -> None:
    path = tmp_path / "requests.jsonl"
    write_requests(outcome.records, path)
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [(r["run"], r["index"]) for r in records] == [(run, i) for run in ("off", "on") for i in range(7)]
    assert all(list(record) == documented("Record") for record in records)
    assert records[8]["misses"] == {"diverged": 1}
    assert records[13]["error"].endswith(f"holds {LONGEST}")


def test_headline_says_what_was_won(outcome: ReplayOutcome) -> None:
    text = printed(outcome)
    assert "Hit rate    81.3%  200 of 246 prompt tokens reused" in text
    assert re.search(r"TTFT p50 +41\.0 ms → 1\.0 ms +41\.0x", text)
    assert "identical  in 6 of 6 requests, cache off and on" in text
    assert "7 requests" in text
    assert "2 bad lines skipped" in text


def test_runs_and_misses_and_refusals_are_tabled(outcome: ReplayOutcome) -> None:
    text = printed(outcome)
    assert re.search(r"prefill tokens computed\W+246\W+46\W+5\.35x", text)
    assert re.search(r"never seen +41 +16\.7% +█+░+ +no earlier prompt", text)
    assert re.search(r" 2\W+s1\W+41\W+40\W+1\.0 ms\W+diverged at 40: 1", text)
    assert "Refused requests (1)" in text


def test_differing_outputs_are_shown() -> None:
    requests = [request(i, [1, 2, 3 + i]) for i in range(2)]
    text = printed(replay(requests, Bench(drift=True).target, ReplaySettings(), logs=["a", "b"]))
    assert "different  in 1 of 2 requests: 1 by rounding (largest margin 0 logits), 0 otherwise" in text
    assert re.search(r"log\.jsonl:2\W+1\W+8\W+9\W+rounding, 0 of 7\.6e-05 logits", text)


@pytest.mark.parametrize("cache", ["on", "off"])
def test_single_run(cache: Any) -> None:
    text = printed(replay([request(0, [1, 2])], Bench().target, ReplaySettings(cache=cache), logs=[]))
    assert f"cache {cache}" in text
    assert "Outputs" not in text
    assert ("Hit rate" in text) == (cache == "on")


def test_nothing_answered_is_printed_too() -> None:
    text = printed(replay([request(0, range(LONGEST))], Bench().target, ReplaySettings(), logs=[]))
    assert "0 of 0 prompt tokens" in text


HOSTILE = "\x1b[2J\x1b]0;owned\x07[red]not red[/red]\u202eevil\n\x9b31m"


def test_text_from_a_log_does_nothing_to_the_terminal(outcome: ReplayOutcome) -> None:
    records = [
        replace(r, session=HOSTILE, source=f"/x/{HOSTILE}", error=r.error and HOSTILE)
        for r in outcome.records
    ]
    report = replace(outcome.report, model=HOSTILE)
    text = printed(ReplayOutcome(report, records), width=200)
    assert not set(text) & {"\x1b", "\x07", "\x9b", "\u202e"}
    assert "[red]not red" in text
    assert "\\x1b[2J" in text


def test_plain_where_it_is_no_terminal_and_coloured_where_it_is(outcome: ReplayOutcome) -> None:
    assert "\x1b" not in printed(outcome)
    assert "\x1b[" in printed(outcome, force_terminal=True, color_system="standard")


def test_narrow_terminal(outcome: ReplayOutcome) -> None:
    assert all(len(line) <= 60 for line in printed(outcome, width=60).splitlines())


def test_visible_cuts_and_escapes() -> None:
    assert visible("abc", 3) == "abc"
    assert visible("abcd", 3) == "ab…"
    assert visible("a\x00\ud800b") == "a\\x00\\ud800b"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0.0 ms"),
        (0.0123, "12.3 ms"),
        (0.0996, "100 ms"),
        (0.412, "412 ms"),
        (0.9996, "1.00 s"),
        (3.214, "3.21 s"),
        (9.996, "10.0 s"),
        (1234.5, "1,234.5 s"),
    ],
)
def test_durations(value: float | None, text: str) -> None:
    assert seconds(value) == text


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [(10.0, 2.0, "5.00x"), (30.0, 2.0, "15.0x"), (1.0, 2.0, "0.50x"), (1.0, 0.0, ""), (None, 1.0, "")],
)
def test_ratios(before: float | None, after: float | None, text: str) -> None:
    assert ratio(before, after) == text


def test_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("old")

    def interrupted() -> None:
        with writing(path) as file:
            file.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    with writing(path) as file:
        file.write("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]


def test_links_are_written_through_and_devices_straight(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    with writing(link) as file:
        file.write("new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    with writing(Path("/dev/null")) as file:
        file.write("x")
    assert not Path("/dev/null").is_file()


def test_unwritable_paths_are_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder"):
        check_writable(tmp_path)
    with pytest.raises(ValueError, match=r"nowhere is not a directory"):
        check_writable(tmp_path / "nowhere" / "out.json")
    check_writable(tmp_path / "out.json")
