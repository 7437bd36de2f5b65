"""What reports say about equal answers."""

from __future__ import annotations

import io
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from rich.console import Console

from radixcache.replay.results import DifferingRequest, ReplayReport
from radixcache.report.equality import breaks_promise, broken_promise, outcome, promise, rounding_warning
from radixcache.report.html import read_run
from radixcache.report.html.clean import Cleaner
from radixcache.report.html.payload import make_payload
from radixcache.report.html.read import Run
from radixcache.report.html.records import RequestLog
from radixcache.report.html.words import vocabulary
from radixcache.report.terminal.replay import print_report
from tests.report import pages

REASON = "bfloat16 products round by row count"
ROUNDING = DifferingRequest(3, "a", 4, 1, (5,), (6,), 0.011, 0.25, "rounding")
WRONG = DifferingRequest(4, "a", 5, 1, (5,), (6,), 2.34, 0.25, "wrong")
FAILED = DifferingRequest(5, "a", 6, 0, (), (6,), verdict="failed")
OPEN = DifferingRequest(6, "a", 7, 0, (5,), (6,))

PLAIN: ReplayReport = TypeAdapter(ReplayReport).validate_python(pages.replay(73)[0])


def report(
    *differing: DifferingRequest, invariant: bool | None = True, reason: str = "", **more: Any
) -> ReplayReport:
    runs = tuple(replace(run, batch_invariant=invariant, variance=reason) for run in PLAIN.runs)
    return replace(PLAIN, differing_requests=differing, identical_outputs=not differing, runs=runs, **more)


def printed(found: ReplayReport, width: int) -> str:
    out = io.StringIO()
    print_report(found, [], Console(file=out, width=width))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    return " ".join(out.getvalue().replace("│", " ").split())


def payload(found: ReplayReport, redact: bool = False) -> Any:
    cleaner = Cleaner(redact=redact, vocabulary=vocabulary())
    made = make_payload([Run("replay", "run.json", found)], RequestLog((), ()), cleaner)
    return made["reports"][0]["data"]["equality"]


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (report(), "Answers do not depend on batching or cache hits (checked on this machine)."),
        (report(WRONG), "Promised: answers do not depend on batching or cache hits."),
        (report(FAILED), "Answers do not depend on batching or cache hits (checked on this machine)."),
        (report(invariant=None), "Whether answers depend on batching or cache hits was not recorded."),
        (
            report(invariant=False, reason=REASON, dtype="bfloat16"),
            f"Answers may differ by rounding with batching and cache hits: {REASON}. "
            "To prevent it: --dtype float32.",
        ),
    ],
)
def test_every_report_says_what_is_promised(found: ReplayReport, sentence: str, width: int) -> None:
    assert sentence in printed(found, width)
    one = replace(found, runs=found.runs[1:], identical_outputs=None, differing_requests=())
    assert promise(one) in printed(one, width)
    assert payload(found)["promise"] == sentence


@pytest.mark.parametrize(
    ("how", "remedy"),
    [
        (("auto", "bfloat16", "cpu"), "--dtype float32."),
        (("auto", "float32", "cpu"), "hits."),
        (("off", "float32", "cpu"), "--invariant on."),
        (("auto", "bfloat16", "cuda:0"), "--invariant on."),
    ],
)
def test_the_remedy_fits_what_was_asked_for(how: tuple[str, str, str], remedy: str) -> None:
    invariant, dtype, device = how
    assert rounding_warning("", invariant=invariant, dtype=dtype, device=device).endswith(remedy)


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (report(), "Outputs identical in 73 of 73 requests, cache off and on"),
        (
            report(ROUNDING),
            "Outputs different in 1 of 73 requests: 1 by rounding (largest margin 0.011 logits), 0 otherwise",
        ),
        (
            report(ROUNDING, WRONG, FAILED, OPEN),
            "different in 4 of 73 requests: 1 by rounding (largest margin 0.011 logits), 1 otherwise, "
            "1 failed in one run, 1 not examined",
        ),
        (report(WRONG), "different in 1 of 73 requests: 0 by rounding, 1 otherwise"),
        (report(OPEN), "different in 1 of 73 requests Promised:"),
    ],
)
def test_the_headline_tells_rounding_from_the_rest(found: ReplayReport, sentence: str, width: int) -> None:
    assert sentence in printed(found, width)
    assert payload(found)["outcome"] == outcome(found)


@pytest.mark.parametrize("width", [60, 80])
def test_wrong_answers_are_said_to_be_wrong(width: int) -> None:
    sentence = (
        "1 answer is wrong: the difference is more than rounding explains. "
        "Please report it, with the --json file."
    )
    for invariant in (True, False):
        found = report(WRONG, ROUNDING, invariant=invariant)
        assert sentence in printed(found, width)
        assert payload(found)["broken"] == sentence
        assert breaks_promise(found) is invariant
    assert "2 answers are wrong" in broken_promise(report(WRONG, replace(WRONG, index=9)))


def test_a_promise_may_be_broken_by_rounding_too() -> None:
    for request in (ROUNDING, OPEN):
        assert broken_promise(report(request)).startswith("The engine promised equal answers")
        assert broken_promise(report(request, invariant=False)) == ""
        assert not breaks_promise(report(request))
    assert broken_promise(report(FAILED)) == ""
    assert broken_promise(report()) == ""


def test_wrong_answers_are_tabled_first() -> None:
    rounded = [replace(ROUNDING, index=i, line=100 + i) for i in range(9)]
    text = printed(report(*rounded, WRONG), 120)
    assert "wrong, 2.3 of 0.25 logits" in text
    assert text.index("wrong, 2.3") < text.index("rounding, 0.011 of 0.25 logits")


def test_the_reason_is_safe_to_show_and_can_be_redacted() -> None:
    found = report(invariant=False, reason="\x1b[2J[red]SECRET\u202e", dtype="bfloat16")
    text = printed(found, 120)
    assert "\x1b" not in text
    assert "\\x1b[2J[red]SECRET\\u202e" in text
    assert "\x1b" not in payload(found)["promise"]
    redacted = payload(found, redact=True)["promise"]
    assert "SECRET" not in redacted
    assert redacted.startswith("Answers may differ by rounding with batching and cache hits: [")
    assert redacted.endswith("To prevent it: --dtype float32.")


def test_reports_of_earlier_versions_are_read(tmp_path: Path) -> None:
    old, _ = pages.replay(6)
    del old["invariant"]
    for run in old["runs"]:
        del run["batch_invariant"], run["variance"]
    for request in old["differing_requests"]:
        del request["margin"], request["bound"], request["verdict"]
    found = read_run(pages.save(old, tmp_path / "old.json")).report
    assert "was not recorded" in printed(found, 80)
    assert "different in 1 of 6 requests" in printed(found, 80)
    assert payload(found)["verdicts"] == ["not examined"]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    found = report(ROUNDING, WRONG, FAILED, OPEN, invariant=False, reason=REASON)
    assert read_run(pages.save(asdict(found), tmp_path / "run.json")).report == found


def test_a_verdict_that_is_none_is_refused_by_its_name(tmp_path: Path) -> None:
    data = asdict(report(ROUNDING))
    data["differing_requests"][0]["verdict"] = "fine"
    with pytest.raises(ValueError, match=r"run\.json: differing_requests\[0\]\.verdict: "):
        read_run(pages.save(data, tmp_path / "run.json"))
