"""No command writes over what it reads, nor two outputs into one file."""

from __future__ import annotations

from pathlib import Path

import pytest

from radixcache.cli import main

MEMORY = ("--gpu-memory", "1GB", "--context", "1k")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "log.jsonl").write_text('{"prompt_token_ids": [1, 2, 3]}\n')
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ("simulate", "{log}", "--json", "{log}"),
        ("simulate", "{folder}", "--requests-out", "{log}"),
        ("curve", "{log}", "--png", "{log}"),
        ("curve", "{log}", "--model", "{config}", "--json", "{config}"),
        ("plan", "{log}", "--model", "{config}", *MEMORY, "--json", "{log}"),
        ("plan", "--model", "{config}", *MEMORY, "--json", "{config}"),
        ("replay", "{log}", "--json", "{log}"),
        ("replay", "{log}", "--model", "{config}", "--json", "{config}"),
        ("simulate", "{log}", "--tokenizer", "{config}", "--json", "{config}"),
        ("doctor", "{log}", "--pricing", "{config}", "--json", "{config}"),
        ("report", "{config}", "--html", "{config}"),
        ("report", "{config}", "--requests", "{log}", "--html", "{log}"),
        ("doctor", "--template", "{config}", "--json", "{config}"),
    ],
)
def test_inputs_are_kept(arguments: tuple[str, ...], files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"log": files / "log.jsonl", "config": files / "config.json", "folder": files}
    before = {path: path.read_bytes() for path in files.iterdir()}
    assert main([argument.format(**names) for argument in arguments]) == 2
    assert capsys.readouterr().err.endswith(" is read; another file is needed to write\n")
    assert {path: path.read_bytes() for path in files.iterdir()} == before


def test_a_link_to_the_log_is_the_log(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "link").symlink_to(files / "log.jsonl")
    assert main(["simulate", str(files / "log.jsonl"), "--json", str(files / "link")]) == 2
    assert "is read; another file" in capsys.readouterr().err


def test_each_output_has_a_file(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(files / "out")
    assert main(["simulate", str(files / "log.jsonl"), "--json", out, "--requests-out", out]) == 2
    assert "is named for two outputs" in capsys.readouterr().err
    assert not (files / "out").exists()
