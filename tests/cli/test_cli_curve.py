"""`radixcache curve` and `radixcache plan` from the command line."""

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
CONFIG = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 64,
    "torch_dtype": "float16",
}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        code = main(list(map(str, arguments)))
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.jsonl"
    records = [
        {
            "timestamp": 1000 - i,
            "input_length": 10 * 512 + 7,
            "hash_ids": [i % 5 * 100 + j for j in range(11)],
        }
        for i in range(20)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def ids(tmp_path: Path) -> Path:
    path = tmp_path / "ids.jsonl"
    records = [{"prompt_token_ids": [i % 5, *range(63)], "tenant": f"t{i % 2}"} for i in range(20)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    return path


def at(report: dict[str, Any], capacity: int, block_size: int | None = None) -> dict[str, Any]:
    (point,) = (
        p
        for p in report["points"]
        if p["capacity_blocks"] == capacity and block_size in (None, p["block_size"])
    )
    return dict(point)


def test_a_trace_by_its_own_blocks(run: Run, trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    code, text, err = run("curve", trace, "--capacity", "7,49", "--no-clairvoyant", "--json", out)
    assert (code, err) == (0, "")
    assert "75.0%" not in text
    assert "74.9%" in text
    report = json.loads(out.read_text())
    (curve,) = report["curves"]
    assert (report["schema"], report["unit_tokens"], report["requests"]) == ("radixcache.curve/1", 512, 20)
    assert (curve["block_references"], curve["distinct_blocks"]) == (200, 50)
    assert curve["saturation_blocks"] == 50
    assert at(report, 50)["cached_tokens_whole_blocks"] == 150 * 512
    assert at(report, 50)["hit_rate"] == 150 * 512 / (20 * (10 * 512 + 7))
    assert at(report, 49)["cached_tokens_whole_blocks"] == 15 * 9 * 512
    assert at(report, 7)["cached_tokens_whole_blocks"] == 0
    assert at(report, 50)["standard_error"] == 0.0
    assert at(report, 50)["clairvoyant_hit_rate"] is None


def test_the_bound_is_at_least_the_curve(run: Run, trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert run("curve", trace, "--json", out)[0] == 0
    points = [p for p in json.loads(out.read_text())["points"] if p["clairvoyant_hit_rate"] is not None]
    assert len(points) > 2
    assert all(p["clairvoyant_hit_rate"] >= p["hit_rate"] for p in points)
    assert any(p["clairvoyant_hit_rate"] > p["hit_rate"] for p in points)


def test_a_curve_for_each_block_size(run: Run, ids: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    options = ["--block-size", "8,16,64", "--capacity", "40", "--no-clairvoyant"]
    assert run("curve", ids, *options, "--json", out)[0] == 0
    report = json.loads(out.read_text())
    assert [curve["block_size"] for curve in report["curves"]] == [8, 16, 64]
    assert at(report, 40, 8)["cached_tokens_whole_blocks"] == 15 * 64
    assert at(report, 40, 64)["capacity_tokens"] == 2560


def test_a_curve_for_each_namespace(run: Run, ids: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    options = ["--by", "namespace", "--namespace-by", "tenant", "--no-clairvoyant"]
    assert run("curve", ids, *options, "--json", out)[0] == 0
    report = json.loads(out.read_text())
    assert [(c["namespace"], c["requests"]) for c in report["curves"]] == [("t0", 10), ("t1", 10)]
    assert [c["unbounded_hit_rate"] for c in report["curves"]] == [0.5, 0.5]


def test_order_of_arrival(run: Run, trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    options = ["--repeat", "2", "--arrivals", "timestamps", "--no-clairvoyant", "--json", out]
    assert run("curve", trace, *options)[0] == 0
    report = json.loads(out.read_text())
    assert (report["requests"], report["repeat"], report["arrivals"]) == (40, 2, "timestamps")


def test_capacities_in_bytes(run: Run, trace: Path, config: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    common = ["curve", trace, "--capacity", "10", "--no-clairvoyant", "--json", out]
    for options, per_token in (
        (["--model", config], 2 * 2 * 2 * 16 * 2),
        (["--model", config, "--dtype", "fp8"], 2 * 2 * 2 * 16),
        (["--bytes-per-token", "1000"], 1000),
    ):
        code, text, _ = run(*common, *options)
        assert code == 0
        assert "GB" in text
        report = json.loads(out.read_text())
        assert report["bytes_per_token"] == per_token
        assert at(report, 10)["capacity_bytes"] == 10 * 512 * per_token


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--block-size", "1000"], "block size must be a multiple of 512, the log's block size, got 1000"),
        (["--block-size", "512,"], "--block-size must be values separated by commas, got '512,'"),
        (["--block-size", "512,512"], "names a size twice"),
        (["--sample", "2"], "sample must be above 0 and at most 1, got 2"),
        (["--sample", "0.001"], "sample is 0.001, too little for 200 blocks"),
        (["--capacity", "many"], "--capacity must be a whole number such as 3000, 10k or 1.5M, got 'many'"),
        (["--by", "tenant"], "Invalid value for '--by'"),
        (["--dtype", "fp8"], "--model is needed, too"),
        (["--bytes-per-token", "0"], "--bytes-per-token must be at least 1, got 0"),
        (["--bytes-per-token", "1", "--model", "x.json"], "exclude each other"),
        (["--model", "nowhere.json"], "nowhere.json: cannot be read"),
        (["--repeat", "0"], "--repeat must be at least 1, got 0"),
        (["--json", "/nowhere/out.json"], "/nowhere/out.json cannot be written"),
    ],
)
def test_bad_input_is_one_line(run: Run, trace: Path, options: list[str], message: str) -> None:
    code, out, err = run("curve", trace, "--no-clairvoyant", *options)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_missing_log_is_one_line(run: Run) -> None:
    assert run("curve", "nowhere.jsonl") == (2, "", "error: nowhere.jsonl: no such file\n")


def test_a_trace_loads_no_torch_and_a_model_name_neither(trace: Path, config: Path) -> None:
    commands = [
        ["curve", str(trace), "--no-clairvoyant", "--model", str(config)],
        ["plan", "--model", str(config), "--gpu-memory", "1GB", "--context", "1k", str(trace)],
    ]
    code = (
        "import sys; from radixcache.cli import main; "
        f"codes = [main(c) for c in {commands!r}]; "
        "heavy = [m for m in ('torch', 'transformers', 'matplotlib') if m in sys.modules]; "
        "print(heavy, codes, file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr == "[] [0, 0]\n"


def test_a_plan(run: Run, config: Path, trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    options = ["--model", config, "--gpu-memory", "6.5536MB", "--context", "1k", "--weights", "0"]
    code, text, err = run("plan", *options, "--dtype", "fp8", trace, "--json", out)
    assert (code, err) == (0, "")
    plan = json.loads(out.read_text())
    assert (plan["bytes_per_token"], plan["tokens"], plan["sequences"]) == (128, 51_200, 50)
    assert (plan["dtype"], plan["context"], plan["sequence_memory"]) == ("fp8", 1024, 131_072)
    assert plan["log"]["capacity_blocks"] == 100
    assert plan["log"]["cached_tokens_whole_blocks"] == 150 * 512
    assert "51,200" in text
    assert "74.90%" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"--gpu-memory": "lots"}, "--gpu-memory must be a size such as 80GB or 74.5GiB, got 'lots'"),
        ({"--context": "0"}, "--context must be from 1 to 2,147,483,647, got '0'"),
        ({"--dtype": "fp7"}, "dtype must be one of "),
        ({"--weights": "-1"}, "--weights must be a size such as 80GB or 74.5GiB, got '-1'"),
        ({"--block-size": "0"}, "--block-size must be at least 1, got 0"),
        ({"--model": "nowhere.json"}, "nowhere.json: cannot be read"),
        ({"--model": "./nowhere"}, "./nowhere: no such file or folder"),
    ],
)
def test_a_bad_plan_is_one_line(run: Run, config: Path, options: dict[str, str], message: str) -> None:
    given = {"--model": str(config), "--gpu-memory": "80GB", "--context": "32k", **options}
    code, out, err = run("plan", *(part for pair in given.items() for part in pair))
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
