"""`radixcache simulate` from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from radixcache.cli import main

Run = Callable[..., tuple[int, str, str]]

FIELDS = {
    "policy",
    "capacity_blocks",
    "capacity_tokens",
    "block_size",
    "requests",
    "prompt_tokens",
    "cached_tokens",
    "cached_tokens_whole_blocks",
    "hit_rate",
    "hit_rate_whole_blocks",
    "gap_closed",
    "evictions",
    "too_large",
    "waited",
}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "120")

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        code = main(["simulate", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.jsonl"
    records = [
        {"prompt_token_ids": [*range(40), 100 + i], "session": f"s{i % 2}", "timestamp": i, "tenant": i % 2}
        for i in range(6)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_report_and_records(run: Run, log: Path, tmp_path: Path) -> None:
    report, records = tmp_path / "r.json", tmp_path / "r.jsonl"
    options = ("--capacity", "4,unbounded", "--policy", "lru", "--block-size", "8,16")
    code, out, err = run(log, *options, "--json", report, "--requests-out", records)
    assert (code, err) == (0, "")
    found = json.loads(report.read_text())
    assert found["schema"] == "radixcache.simulate/1"
    assert (found["requests"], found["sessions"], found["bad_lines"]) == (6, 2, 0)
    assert (found["unit_tokens"], found["tokenizer"], found["logs"]) == (1, None, [str(log)])
    runs = [(r["block_size"], r["capacity_blocks"], r["policy"]) for r in found["results"]]
    assert runs == [(8, 4, "lru"), (8, None, "lru"), (16, 4, "lru"), (16, None, "lru")]
    assert all(set(result) == FIELDS for result in found["results"])
    unbounded = found["results"][3]
    assert unbounded["cached_tokens"] == 5 * 40
    assert unbounded["cached_tokens_whole_blocks"] == 5 * 32
    assert unbounded["hit_rate"] == 200 / 246
    lines = [json.loads(line) for line in records.read_text().splitlines()]
    assert len(lines) == 4 * 6
    assert [line["cached_tokens"] for line in lines[-6:]] == [0, 40, 40, 40, 40, 40]
    assert "Hit rate, blocks of 16 tokens" in out
    assert "81.30%" in out
    assert "lru, 4 blocks of 8: 6 prompts were larger than the cache" in out


def test_namespaces(run: Run, log: Path, tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    assert run(log, "--policy", "lru", "--namespace-by", "tenant", "--json", report)[0] == 0
    assert json.loads(report.read_text())["results"][0]["cached_tokens"] == 4 * 40


def test_whole_blocks_alone(run: Run, log: Path, tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    code, out, _ = run(log, "--policy", "lru", "--whole-blocks", "--json", report)
    assert code == 0
    (result,) = json.loads(report.read_text())["results"]
    assert result["cached_tokens"] == result["cached_tokens_whole_blocks"] == 5 * 32
    assert "as served" not in out


def test_bad_lines_are_named_and_counted_or_fatal(run: Run, log: Path, tmp_path: Path) -> None:
    with log.open("a") as file:
        file.write('{"prompt_token_ids": [1, -2]}\n')
    report = tmp_path / "r.json"
    code, _, err = run(log, "--policy", "lru", "--json", report)
    assert code == 0
    assert err == f"skipped: {log}, line 7: prompt_token_ids[1] is -2, outside 0 to 2147483647\n"
    assert json.loads(report.read_text())["bad_lines"] == 1
    code, _, err = run(log, "--policy", "lru", "--strict")
    assert (code, err.startswith("error: "), "line 7" in err) == (2, True, True)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--capacity", "ten"), "--capacity must be a whole number such as 3000, 10k or 1.5M, got 'ten'"),
        (("--policy", "best"), "unknown eviction policy 'best'"),
        (("--block-size", "0"), "--block-size must be at least 1, got 0"),
        (("--repeat", "0"), "--repeat must be at least 1, got 0"),
        (("--limit", "0"), "--limit must be at least 1, got 0"),
        (("--trace-block", "0"), "--trace-block must be at least 1, got 0"),
        (("--prefill-speed", "0"), "--prefill-speed must be a finite number above 0, got 0"),
        (("--namespace-by", "a..b"), "namespace_by must be a field name or a dotted path, got 'a..b'"),
        (("--json", "/nowhere/r.json"), "/nowhere/r.json cannot be written"),
    ],
)
def test_bad_options_are_one_line(run: Run, log: Path, options: tuple[str, ...], reason: str) -> None:
    code, out, err = run(log, *options)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert reason in err
    assert err.count("\n") == 1


def test_missing_logs(run: Run, tmp_path: Path) -> None:
    assert run(tmp_path / "gone")[2] == f"error: {tmp_path / 'gone'}: no such file\n"
    assert run(tmp_path)[2].startswith(f"error: {tmp_path}: is a folder without a log")


def test_token_ids_and_traces_need_no_torch(tmp_path: Path, log: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"timestamp": 0, "input_length": 600, "output_length": 1, "hash_ids": [0, 1]}\n')
    for path in (log, trace):
        arguments: list[Any] = ["simulate", str(path), "--policy", "lru"]
        code = (
            f"import sys; from radixcache.cli import main; code = main({arguments!r}); "
            "print([m for m in ('torch', 'transformers', 'tokenizers') if m in sys.modules], code)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[] 0"
