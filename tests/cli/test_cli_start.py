"""The command line starts without loading an engine."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from radixcache.cli import main

HEAVY = ("torch", "transformers", "numpy", "rich")


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--version"], f"radixcache {version('radixcache')}\n"),
        (["--help"], "replay"),
        ([], "replay"),
        (["replay", "--help"], "--requests-out"),
    ],
)
def test_help_and_version(capsys: pytest.CaptureFixture[str], arguments: list[str], shown: str) -> None:
    assert main(arguments) == 0
    assert shown in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["replay", "--help"], ["replay", "nowhere"]]
)
def test_no_torch_is_loaded_to_say_so(arguments: list[str]) -> None:
    code = (
        f"import sys; from radixcache.cli import main; code = main({arguments!r}); "
        f"print([m for m in {HEAVY!r} if m in sys.modules], code, file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr.splitlines()[-1] == f"[] {2 if 'nowhere' in arguments else 0}"


def test_module_runs_as_a_command() -> None:
    command = [sys.executable, "-m", "radixcache", "replay", "nowhere.jsonl"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert (result.stdout, result.stderr) == ("", "error: nowhere.jsonl: no such file\n")


def test_an_interrupt_while_loading_is_no_traceback() -> None:
    code = (
        "import sys\n"
        "from radixcache.__main__ import run\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'typer': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "sys.exit(run())\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bogus"]) == 2
    assert capsys.readouterr().err == "error: No such command 'bogus'.\n"


@pytest.mark.parametrize("arguments", ["replay --help", "simulate {log}"])
def test_closed_pipe_is_no_traceback(arguments: str, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"prompt_token_ids": [1, 2, 3]}\n')
    command = f"{sys.executable} -m radixcache {arguments.format(log=log)} | true; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in result.stderr
    assert "Exception" not in result.stderr
    assert result.returncode == 141
