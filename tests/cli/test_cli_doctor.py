"""`radixcache doctor` from the command line: what it prints, writes and refuses."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from radixcache.cli import main
from tests.doctor.planted import write

COMMON = list(range(100, 400))


def ids(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"prompt_token_ids": [*COMMON, 1000 + place, 5], **more} for place in range(count)]


def texts(count: int) -> list[dict[str, Any]]:
    rule = "Answer briefly, name your sources, and never promise what the airline does not offer. "
    return [
        {
            "messages": [
                {"role": "system", "content": f"Request number {1000 + 37 * place}.\n\n{rule * 12}"},
                {"role": "user", "content": f"Question {place}: may I take {place} bags?"},
            ]
        }
        for place in range(count)
    ]


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    code = main(["doctor", *map(str, arguments)])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def test_token_ids_need_no_tokenizer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "log.jsonl", ids(20))
    out = run(capsys, path, "--json", tmp_path / "out.json", "--prefill-speed", "1000")
    assert "of the prompt tokens were reused" in out
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["schema"] == "radixcache.doctor/2"
    assert report["settings"]["tokenizer"] is None
    assert sum(report["missed_tokens"].values()) == report["prompt_tokens"] - report["cached_tokens"]
    assert len(report["table"]["rows"]) == report["requests"] == 20
    assert {len(row) for row in report["table"]["rows"]} == {len(report["table"]["columns"])}


@pytest.mark.model
def test_a_finding_is_printed_and_fixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "log.jsonl", texts(20))
    fixed = tmp_path / "fixed.jsonl"
    out = run(capsys, path, "--json", tmp_path / "out.json", "--fix", fixed)
    report = json.loads((tmp_path / "out.json").read_text())
    (finding,) = report["findings"]
    assert finding["kind"] == "volatile_text"
    assert finding["where"] == {"part": "system", "message": 0, "role": "system", "line": 1}
    assert "1. A changing number appears early (line 1 of the system message)" in out
    assert f"{finding['gain_tokens']:,}" in out
    assert "Move text matching" in out
    lines = [json.loads(line) for line in fixed.read_text().splitlines()]
    assert all(line["messages"][0]["content"].startswith("Answer briefly") for line in lines)
    run(capsys, fixed, "--json", tmp_path / "after.json")
    after = json.loads((tmp_path / "after.json").read_text())
    assert after["hit_rate"] == finding["hit_rate_after"]
    assert after["findings"] == []


@pytest.mark.model
def test_what_if_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "log.jsonl", texts(20))
    edit = "drop:Request number \\d+\\."
    out = run(capsys, path, "--what-if", edit, "--json", tmp_path / "out.json", "--fix", tmp_path / "fixed")
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["what_if"]["edits"] == [edit]
    assert report["what_if"]["hit_rate"] > 0.8 > report["hit_rate"]
    assert "What if" in out
    run(capsys, tmp_path / "fixed", "--json", tmp_path / "after.json")
    after = json.loads((tmp_path / "after.json").read_text())
    assert after["cached_tokens"] == report["what_if"]["cached_tokens"]


def test_what_if_of_a_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "log.jsonl", ids(20, user="a") + ids(20, user="b"))
    run(
        capsys,
        path,
        "--namespace-by",
        "user",
        "--what-if",
        "share:namespaces",
        "--json",
        tmp_path / "out.json",
    )
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["what_if"]["gain_tokens"] >= len(COMMON)
    assert report["missed_tokens"]["other_namespace"] >= len(COMMON)


def test_control_characters_do_not_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = texts(12)
    for place, record in enumerate(log):
        record["messages"][0]["content"] = f"\x1b[31m{place}\x1b]0;x\x07 " + record["messages"][0]["content"]
    out = run(capsys, write(tmp_path / "log.jsonl", log))
    assert "\x1b]0" not in out
    assert "\x07" not in out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--what-if", "shuffle:tools"], "is not a valid edit"),
        (["--what-if", "drop:a{99999999999}"], "is not a valid regular expression"),
        (["--what-if", "drop:" + "(" * 5000 + ")" * 5000], "what-if 'drop:(((("),
        (["--what-if", "policy:best"], "best"),
        (["--capacity", "many"], "--capacity must be a whole number such as 3000, 10k or 1.5M, got 'many'"),
        (["--policy", "best"], "best"),
        (["--ttl", "0"], "--ttl must be a finite number above 0, got 0"),
        (["--ttl", "inf"], "--ttl must be a finite number above 0, got inf"),
        (["--prefill-speed", "inf"], "--prefill-speed must be a finite number above 0, got inf"),
        (["--prefill-speed", "1e-320"], "prefill_speed must be from 1e-09 to 1e+15, got 9.99989e-321"),
        (["--ttl", "5"], "timestamp is missing"),
        (["--arrivals", "timestamps", "--interleave", "2"], "interleave reorders the log"),
        (["--block-size", "0"], "--block-size must be at least 1, got 0"),
        (["--limit", "0"], "--limit must be at least 1, got 0"),
        (["--json", "/nowhere/x.json"], "/nowhere"),
        (["--namespace-by", "user"], "no request has the field user"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "log.jsonl", ids(3))
    assert main(["doctor", path, *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert complaint in error
    assert error.count("\n") == 1


def test_a_bad_line_is_skipped_unless_strict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log.jsonl"
    write(path, ids(3))
    path.write_text(path.read_text() + "{}\n")
    assert "1 bad line skipped" in run(capsys, path)
    assert main(["doctor", str(path), "--strict"]) == 2
    assert "line 4" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--json", "--html", "--fix"])
def test_the_log_is_not_written_over(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "log.jsonl", ids(3))
    before = Path(path).read_bytes()
    for log in (path, tmp_path):
        assert main(["doctor", str(log), option, str(tmp_path / "." / "log.jsonl")]) == 2
        assert capsys.readouterr().err.endswith("log.jsonl is read; another file is needed to write\n")
    assert Path(path).read_bytes() == before


def test_a_cache_without_a_capacity_is_bounded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each prompt ends with 40 tokens of its own and comes again after all the others.
    log = [{"prompt_token_ids": [*COMMON, *range(1000 + 40 * n, 1040 + 40 * n)]} for n in range(30)] * 2
    path = write(tmp_path / "log.jsonl", log)
    assert "a cache that never evicts" in run(capsys, path)
    for module in ("attribution", "doctor"):
        monkeypatch.setattr(f"radixcache.doctor.{module}.MOST_BLOCKS", 50)
    assert main(["doctor", str(path), "--json", str(tmp_path / "out.json")]) == 0
    captured = capsys.readouterr()
    assert "the log needs more than 50 blocks" in captured.err
    assert "50 blocks, blocks of 16 tokens" in captured.out
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["settings"]["capacity_blocks"] == 50
    assert report["missed_tokens"]["evicted"] > 0
    assert sum(report["missed_tokens"].values()) == report["prompt_tokens"] - report["cached_tokens"]


def test_two_outputs_need_two_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "log.jsonl", ids(3))
    out = tmp_path / "out"
    assert main(["doctor", str(path), "--json", str(out), "--fix", str(out)]) == 2
    assert "is named for two outputs" in capsys.readouterr().err
    assert not out.exists()
    run(capsys, path, "--json", "/dev/null", "--fix", "/dev/null")


@pytest.mark.model
def test_an_edit_is_shown_as_a_shell_takes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = texts(12)
    for place, record in enumerate(log):
        system = record["messages"][0]
        system["content"] = f"It's no.\t{place + 1000:05d} at 'x'. " + system["content"].split("\n", 1)[1]
    path = write(tmp_path / "log.jsonl", log)
    out = run(capsys, path, "--json", tmp_path / "out.json", "--fix", tmp_path / "fixed")
    (finding,) = json.loads((tmp_path / "out.json").read_text())["findings"]
    shown = [line for line in out.splitlines() if "--what-if" in line]
    assert shlex.split(shown[-1]) == ["--what-if", finding["edit"]["what_if"]]
    assert "\\t" in shown[-1]


def test_a_log_of_hashes_cannot_be_fixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = [{"timestamp": 0, "input_length": 900, "output_length": 1, "hash_ids": [1, 2]}] * 3
    path = write(tmp_path / "log.jsonl", trace)
    assert main(["doctor", str(path), "--fix", str(tmp_path / "fixed")]) == 2
    assert "block hashes holds no text to rewrite" in capsys.readouterr().err
    assert not (tmp_path / "fixed").exists()


@pytest.mark.model
def test_a_narrow_terminal_shows_the_figures_and_what_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "44")
    path = write(tmp_path / "log.jsonl", texts(12))
    out = run(capsys, path, "--json", tmp_path / "out.json")
    report = json.loads((tmp_path / "out.json").read_text())
    assert all(f" {tokens:,} " in out for tokens in report["missed_tokens"].values() if tokens)
    sides = [line for line in out.splitlines() if " token " in line]
    assert [number in side for number, side in zip(("1000", "1037"), sides, strict=True)] == [True, True]


def test_what_a_page_redacts_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jinja2", reason="the extra html is not installed")
    path = write(tmp_path / "log.jsonl", ids(3))
    assert main(["doctor", str(path), "--html", str(tmp_path / "page.html"), "--redact"]) == 0
    assert "The page is redacted; what is printed here and other files are not." in capsys.readouterr().err


@pytest.mark.model
def test_an_edit_that_matches_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "log.jsonl", texts(12))
    edits = ["--what-if", "move:Nowhere to be seen:last", "--what-if", "sort:tools"]
    out = run(capsys, path, *edits, "--fix", tmp_path / "fixed.jsonl", "--json", tmp_path / "out.json")
    assert out.count("matches nothing in 12 requests") == 4
    assert json.loads((tmp_path / "out.json").read_text())["what_if"]["requests_changed"] == [0, 0]
    out = run(capsys, path, "--what-if", "drop:Request number", "--json", tmp_path / "out.json")
    assert "matches nothing" not in out
    assert json.loads((tmp_path / "out.json").read_text())["what_if"]["requests_changed"][0] > 0


def test_machines_alone_print_no_hosted_prices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "log.jsonl", ids(4))
    out = run(capsys, path, "--gpu-hour", "2", "--prefill-speed", "5000")
    assert "Self-hosted prefill" in out
    assert "at $2.00 an hour" in out
    assert "What this log costs" not in out
    assert "Breakpoints" not in out


def test_a_page_of_the_example_log_is_light(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jinja2", reason="the extra html is not installed")
    path = write(tmp_path / "log.jsonl", ids(73))
    run(capsys, path, "--html", tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 500_000


def test_a_template_is_proved_by_its_own_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "some.jinja"
    file.write_text("{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}")
    printed = []
    for command in (["template", str(file)], ["doctor", "--template", str(file)]):
        proof = tmp_path / "proof.json"
        assert main([*command, "--json", str(proof)]) == 0
        printed.append((capsys.readouterr().out, proof.read_text()))
    assert printed[0] == printed[1]
    assert "some.jinja: unstable" in printed[0][0]
    assert main(["template", str(tmp_path / "gone.jinja")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'gone.jinja'}: no such file\n"
