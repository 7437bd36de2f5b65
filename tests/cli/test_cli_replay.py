"""`radixcache replay` from the command line, on an engine that stands in for ours."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from radixcache.cli import main
from radixcache.cli.engine_options import DType, KVDType
from radixcache.engine import EngineConfig
from radixcache.errors import ModelError
from radixcache.kv.formats import KV_DTYPES
from radixcache.models.dtypes import DTYPES
from radixcache.replay.target import ReplayTarget
from tests.replay.fake_engine import FAILING_TOKEN, Bench

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench()
    loaded: list[dict[str, Any]] = []

    def load_target(name: str, **options: Any) -> ReplayTarget:
        options["notify"]("reading weights")
        loaded.append({"name": name, **options})
        return bench.target

    monkeypatch.setattr("radixcache.replay.target.load_target", load_target)
    monkeypatch.setattr(bench, "loaded", loaded, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    return bench


@pytest.fixture
def run(bench: Bench, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str | Path) -> tuple[int, str, str]:
        code = main(["replay", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.jsonl"
    records = [
        {
            "prompt_token_ids": [*range(10), 20 + i],
            "session": f"s{i % 2}",
            "timestamp": i / 1000,
            "tenant": f"t{i % 2}",
        }
        for i in range(6)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_compare_is_the_default_and_writes_all_that_was_asked_for(
    run: Run, log: Path, tmp_path: Path
) -> None:
    report, requests = tmp_path / "report.json", tmp_path / "requests.jsonl"
    code, out, err = run(log, "--json", report, "--requests-out", requests)
    assert code == 0
    assert err == "loading model smollm2-135m\nreading weights\ncache off: 0 of 6\ncache on: 0 of 6\n"
    assert "Hit rate" in out
    assert "identical" in out
    data = json.loads(report.read_text())
    assert data["identical_outputs"] is True
    assert data["logs"] == [str(log)]
    assert [r["cache"] for r in data["runs"]] == ["off", "on"]
    assert data["runs"][1]["cached_tokens"] == 50
    assert len(requests.read_text().splitlines()) == 12


def test_options_reach_model_cache_and_engine(run: Run, bench: Any, log: Path) -> None:
    options = (
        "--model m --device cpu --dtype float32 --block-size 8 --cache-tokens 640 --cache on --kv-dtype int8"
        " --invariant off"
    )
    code, _, _ = run(log, *options.split(), *["--max-tokens", "5", "--ignore-eos", "--concurrency", "2"])
    assert code == 0
    (loaded,) = bench.loaded
    del loaded["notify"]
    assert loaded == {
        "name": "m",
        "device": "cpu",
        "dtype": "float32",
        "block_size": 8,
        "cache_tokens": 640,
        "cache_memory": None,
        "kv_dtype": "int8",
        "invariant": "off",
        "concurrency": 2,
    }
    engine = bench.engines[-1]
    assert engine.cache is True
    assert {(p.max_tokens, p.ignore_eos) for _, _, _, p in engine.submitted} == {(5, True)}


def test_limit_interleave_and_namespaces(run: Run, bench: Bench, log: Path) -> None:
    run(log, "--cache", "on", "--limit", "5", "--interleave", "1", "--namespace-by", "tenant")
    submitted = [(tokens[-1], namespace) for _, tokens, namespace, _ in bench.engines[-1].submitted]
    assert submitted == [(20, "t0"), (22, "t0"), (24, "t0"), (21, "t1"), (23, "t1")]


def test_arrivals_by_timestamp(run: Run, bench: Bench, log: Path) -> None:
    code, _, _ = run(log, "--cache", "off", "--arrivals", "timestamps", "--speed", "2")
    assert code == 0
    assert len(bench.engines[-1].submitted) == 6


def test_several_logs_compressed_and_standard_input(
    run: Run, bench: Bench, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(b'{"prompt": "zip"}\n'))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"prompt": "in"}\n')))
    code, _, _ = run(log, packed, "-", "--cache", "on")
    assert code == 0
    tokens = [tokens for _, tokens, _, _ in bench.engines[-1].submitted]
    assert tokens[-2:] == [tuple(map(ord, "zip")), tuple(map(ord, "in"))]
    assert len(tokens) == 8


def test_bad_lines_are_reported_skipped_and_counted(run: Run, log: Path) -> None:
    log.write_text('{"messages": [{"content": "x"}]}\n' + log.read_text() + '{"prompt": "\\u001b[2J", "ti\n')
    code, out, err = run(log, "--cache", "on")
    assert code == 0
    assert f"skipped: {log}, line 1: messages[0].role is missing\n" in err
    assert f"skipped: {log}, line 8: not JSON: " in err
    assert "2 bad lines skipped" in out


def test_floods_of_bad_lines_are_summed_up(run: Run, log: Path) -> None:
    log.write_text("bad\n" * 150 + log.read_text())
    _, out, err = run(log, "--cache", "on")
    assert err.count("skipped: ") == 101
    assert "skipped: 50 more bad lines" in err
    assert "150 bad lines skipped" in out


def failed(outcome: tuple[int, str, str]) -> str:
    """The one line that a failed command prints."""
    code, out, err = outcome
    lines = [line for line in err.splitlines() if not line.startswith(("loading ", "reading "))]
    assert code == 2
    assert out == ""
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


def test_strict_stops_at_the_first_bad_line(run: Run, log: Path, tmp_path: Path) -> None:
    log.write_text(log.read_text() + "{}\n")
    report = tmp_path / "report.json"
    message = failed(run(log, "--strict", "--json", report))
    assert message.startswith(f"{log}, line 7: is of no known format")
    assert not report.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["LOG", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["-", "-"], "standard input (-) can be read only once"),
        (
            ["LOG", "--cache-tokens", "9", "--cache-gb", "1"],
            "--cache-tokens and --cache-gb exclude each other",
        ),
        (["LOG", "--cache-tokens", "15"], "--cache-tokens must be at least 16, one block, got 15"),
        (["LOG", "--cache-gb", "nan"], "--cache-gb must be a number above 0, got nan"),
        (["LOG", "--cache-gb", "inf"], "--cache-gb must be a number above 0, got inf"),
        (["LOG", "--cache-gb", "-1"], "--cache-gb must be a number above 0, got -1"),
        (["LOG", "--block-size", "0"], "--block-size must be a power of two up to 256, got 0"),
        (["LOG", "--block-size", "24"], "--block-size must be a power of two up to 256, got 24"),
        (["LOG", "--block-size", "512"], "--block-size must be a power of two up to 256, got 512"),
        (["LOG", "--device", "foo"], "--device must be auto, cpu, cuda or one such as cuda:1, got 'foo'"),
        (
            ["LOG", "--device", "cuda:"],
            "--device must be auto, cpu, cuda or one such as cuda:1, got 'cuda:'",
        ),
        (["LOG", "--limit", "0"], "--limit must be at least 1, got 0"),
        (["LOG", "--max-tokens", "0"], "--max-tokens must be at least 1, got 0"),
        (["LOG", "--concurrency", "0"], "--concurrency must be at least 1, got 0"),
        (["LOG", "--interleave", "-1"], "--interleave must be at least 1, got -1"),
        (["LOG", "--speed", "0"], "--speed must be a finite number above 0, got 0"),
        (
            ["LOG", "--interleave", "2", "--arrivals", "timestamps"],
            "interleave reorders the log, so arrivals cannot be by timestamp",
        ),
        (["LOG", "--namespace-by", "nobody"], "no request has the field nobody to take its namespace from"),
        (
            ["LOG", "--json", "/nowhere/x.json"],
            "/nowhere/x.json cannot be written: /nowhere is not a directory",
        ),
        (["LOG", "--bogus"], "No such option: --bogus"),
        ([], "Missing argument 'LOG'."),
    ],
)
def test_errors_are_one_line_and_exit_code_2(run: Run, log: Path, arguments: list[str], message: str) -> None:
    assert failed(run(*[str(log) if a == "LOG" else a for a in arguments])) == message


def test_choices_and_numbers_are_checked(run: Run, log: Path) -> None:
    for option in ("--kv-dtype", "--dtype", "--invariant"):
        assert option in failed(run(log, option, "foo"))
    assert "--cache" in failed(run(log, "--cache", "maybe"))
    assert "--limit" in failed(run(log, "--limit", "many"))


def test_folder_and_empty_log(run: Run, log: Path, tmp_path: Path) -> None:
    assert failed(run(tmp_path)) == f"{tmp_path} is a folder; a log file is needed"
    log.write_text("\n")
    assert failed(run(log)) == f"{log}: no request was found, every line is blank"


def test_damaged_log_names_the_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"prompt": "x"}\n')[:-9])
    assert failed(run(path)).startswith(f"{path}: damaged gzip data: ")


def test_control_characters_in_an_error_are_escaped(run: Run) -> None:
    assert failed(run("\x1b[2Jgone")) == "\\x1b[2Jgone: no such file"


def test_model_that_cannot_be_loaded(run: Run, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, **options: Any) -> ReplayTarget:
        raise ModelError(f"model {name!r} cannot be loaded: no")

    monkeypatch.setattr("radixcache.replay.target.load_target", refuse)
    assert failed(run(log, "--model", "x")) == "model 'x' cannot be loaded: no"


def test_a_bug_keeps_its_traceback_and_writes_no_file(run: Run, log: Path, tmp_path: Path) -> None:
    log.write_text(json.dumps({"prompt_token_ids": [FAILING_TOKEN]}))
    with pytest.raises(RuntimeError, match="the device is gone"):
        run(log, "--json", tmp_path / "report.json")
    assert [p.name for p in tmp_path.iterdir()] == ["log.jsonl"]


def test_interrupt_is_130(run: Run, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(name: str, **options: Any) -> ReplayTarget:
        raise KeyboardInterrupt

    monkeypatch.setattr("radixcache.replay.target.load_target", interrupt)
    code, out, _ = run(log)
    assert (code, out) == (130, "")


def test_bad_options_are_found_before_torch_is_imported(log: Path) -> None:
    program = (
        "import sys; from radixcache.cli import main; code = main(sys.argv[1:]);"
        "print(code, 'torch' in sys.modules, 'transformers' in sys.modules)"
    )
    for option in ("--block-size=0", "--device=foo", "--kv-dtype=foo", "--dtype=foo", "--cache-gb=nan"):
        command = [sys.executable, "-c", program, "replay", str(log), option]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout == "2 False False\n", option
        assert option.split("=")[0] in done.stderr


def test_options_name_what_the_engine_takes() -> None:
    assert tuple(KVDType) == KV_DTYPES
    assert set(DType) == {"auto", *DTYPES}
    EngineConfig(block_size=256)
    with pytest.raises(ValueError, match="block_size"):
        EngineConfig(block_size=512)


def test_wrong_answers_are_status_1_after_all_was_written(
    run: Run, bench: Bench, log: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    bench.drift, bench.margin = True, 2.5
    code, out, _ = run(log, "--json", report)
    assert code == 1
    assert "5 answers are wrong: the difference is more than rounding explains." in " ".join(out.split())
    assert [r["verdict"] for r in json.loads(report.read_text())["differing_requests"]] == ["wrong"] * 5


@pytest.mark.parametrize(("margin", "variance"), [(0.0, ""), (0.0, "sums vary"), (2.5, "sums vary")])
def test_differences_that_break_no_promise_are_status_0(
    run: Run, bench: Bench, log: Path, margin: float, variance: str
) -> None:
    bench.drift, bench.margin, bench.variance = True, margin, variance
    code, out, _ = run(log)
    assert code == 0
    assert "different" in out


@pytest.mark.parametrize("cache", ["on", "compare"])
def test_outputs_that_may_vary_are_warned_of_once_with_reason_and_remedy(
    run: Run, bench: Bench, log: Path, cache: str
) -> None:
    bench.variance, bench.dtype = "bfloat16 products round by row count", "bfloat16"
    code, out, err = run(log, "--cache", cache)
    assert code == 0
    line = (
        "Answers may differ by rounding with batching and cache hits: bfloat16 products round by row count. "
        "To prevent it: --dtype float32."
    )
    assert err.count("warning: ") == 1
    assert f"\nwarning: {line}\n" in err
    assert line in " ".join(out.replace("│", "").split())


def test_a_reason_does_nothing_to_the_terminal(run: Run, bench: Bench, log: Path) -> None:
    bench.variance = "\x1b[2J[red]x[/red]"
    _, out, err = run(log)
    assert "\x1b" not in out + err
    assert "\\x1b[2J[red]x[/red]" in err
