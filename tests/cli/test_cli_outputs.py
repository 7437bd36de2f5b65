"""No command writes over what it reads, nor two outputs into one file."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from radixcache.cli import main
from radixcache.files import ScratchFile, check_writable, writing

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


def test_an_output_among_the_logs_of_a_folder_is_refused_from_the_first_time(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("out.json", "deep.jsonl.gz"):
        assert main(["simulate", str(files), "--json", str(files / name)]) == 2
        assert "would be one of the logs of a folder that is read" in capsys.readouterr().err
    assert sorted(path.name for path in files.iterdir()) == ["config.json", "log.jsonl"]


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_a_dash_is_standard_output_and_nothing_else_goes_there(
    name: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = str(files / "log.jsonl")
    assert main(["simulate", log, "--policy", "lru", "--json", name]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["requests"] == 1
    assert "radixcache simulate" in err
    assert main(["simulate", log, "--policy", "lru", "--requests-out", name]) == 0
    assert [json.loads(line)["line"] for line in capsys.readouterr().out.splitlines()] == [1]
    assert main(["doctor", log, "--json", name]) == 0
    assert json.loads(capsys.readouterr().out)["requests"] == 1
    assert main(["simulate", log, "--json", name, "--requests-out", "-"]) == 2
    assert capsys.readouterr().err == (
        "error: standard output is named for two outputs; each must have its own file\n"
    )


def test_a_file_may_be_called_dash(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(files)
    assert main(["simulate", "log.jsonl", "--policy", "lru", "--json", "./-"]) == 0
    assert "radixcache simulate" in capsys.readouterr().out
    assert json.loads((files / "-").read_text())["requests"] == 1


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "radixcache", *map(str, arguments)]


def test_pipes_and_process_substitution_are_written(files: Path) -> None:
    log = files / "log.jsonl"
    simulate = " ".join(command("simulate", log, "--policy", "lru"))
    line = (
        f"{simulate} --json /dev/stdout 2>/dev/null | cat; "
        f"{simulate} --json >(cat >{files}/copied) >/dev/null; wait"
    )
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["requests"] == 1
    end = time.monotonic() + 20
    while not (files / "copied").exists() or not (files / "copied").read_text().endswith("}\n"):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_what_cannot_be_written_does_not_keep_the_report_from_being_printed(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = files / "requests.jsonl"
    arguments = ["simulate", str(files / "log.jsonl"), "--policy", "lru", "--json", "/dev/full"]
    assert main([*arguments, "--requests-out", str(other)]) == 2
    out, err = capsys.readouterr()
    assert "radixcache simulate" in out
    assert err == "error: /dev/full cannot be written: No space left on device\n"
    assert other.read_text().count("\n") == 1


def test_a_full_standard_output_is_one_line_and_files_are_written(files: Path) -> None:
    out = files / "out" / "report.json"
    out.parent.mkdir()
    for arguments in (
        ("simulate", files / "log.jsonl", "--policy", "lru", "--json", out),
        ("simulate", files / "log.jsonl", "--policy", "lru", "--json", "-"),
        ("doctor", files / "log.jsonl"),
        ("--help",),
    ):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                command(*arguments), stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert (done.returncode, "Traceback" in done.stderr) == (2, False)
        assert "No space left on device" in done.stderr.splitlines()[-1]
    assert json.loads(out.read_text())["requests"] == 1


def test_closed_streams_are_no_tracebacks(files: Path) -> None:
    log = files / "log.jsonl"
    for line, code, message in (
        (
            f"{' '.join(command('simulate', '-'))} <&-",
            2,
            "error: -: cannot be read: standard input is closed\n",
        ),
        (f"{' '.join(command('simulate', log, '--policy', 'lru'))} >&-", 0, ""),
    ):
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (code, message)


OPENED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".xz": lzma.decompress,
    ".zst": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}


@pytest.mark.parametrize("suffix", OPENED)
def test_a_compressed_name_is_written_compressed_and_read_again(
    suffix: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, fixed = files / "log.jsonl", files / f"fixed.jsonl{suffix}"
    log.write_text(json.dumps({"prompt_token_ids": [1, 2, 3], "text": "é"}) * 1)
    assert main(["doctor", str(log), "--fix", str(fixed)]) == 0
    assert json.loads(OPENED[suffix](fixed.read_bytes()))["text"] == "é"
    assert main(["simulate", str(fixed), "--policy", "lru"]) == 0
    report = files / f"report.json{suffix}"
    assert main(["simulate", str(log), "--policy", "lru", "--json", str(report)]) == 0
    capsys.readouterr()
    assert main(["report", str(report)]) == 0
    assert "radixcache simulate" in capsys.readouterr().out


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_modes_are_kept_and_new_files_are_as_private_as_the_log(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, out = files / "log.jsonl", files / "report"
    before = os.umask(0o022)
    try:
        for private, wanted in ((0o644, 0o644), (0o640, 0o640), (0o600, 0o600)):
            log.chmod(private)
            assert main(["doctor", str(log), "--json", str(out), "--fix", str(files / "fixed")]) == 0
            assert (mode(out), mode(files / "fixed")) == (wanted, wanted)
            out.unlink()
            (files / "fixed").unlink()
        log.chmod(0o644)
        for kept in (0o600, 0o640, 0o664):
            out.write_text("old")
            out.chmod(kept)
            assert main(["simulate", str(log), "--policy", "lru", "--json", str(out)]) == 0
            assert (mode(out), json.loads(out.read_text())["requests"]) == (kept, 1)
        assert os.umask(0o022) == 0o022  # a command leaves the process as it was
    finally:
        os.umask(before)
    capsys.readouterr()


def test_a_file_with_a_long_name_is_written(files: Path) -> None:
    path = files / ("x" * 250)
    check_writable(path)
    with writing(path) as file:
        file.write("whole")
    assert path.read_text() == "whole"
    with pytest.raises(ValueError, match="cannot be written: File name too long"):
        check_writable(files / ("x" * 300))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(files: Path) -> None:
    for name in ("log.jsonl", "log.jsonl.gz"):
        path = files / name
        path.write_text("old")
        with pytest.raises(TypeError), writing(path) as file:
            file.write("new" + 1)  # type: ignore[operator]
        assert path.read_text() == "old"
    assert len(list(files.iterdir())) == 3


def test_a_termination_while_writing_leaves_nothing_behind(files: Path) -> None:
    program = (
        "import sys, time; from radixcache.files import writing\n"
        "import radixcache.report.json as report\n"
        "def slow(found, path):\n"
        "    with writing(path) as file:\n"
        "        file.write('x'); print('writing', file=sys.stderr, flush=True); time.sleep(60)\n"
        "report.write_report = slow\n"
        "from radixcache.__main__ import run\n"
        "sys.exit(run())"
    )
    folder = files / "out"
    folder.mkdir()
    arguments = ["simulate", str(files / "log.jsonl"), "--policy", "lru", "--json", str(folder / "r.json")]
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "writing\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
        assert process.stderr.read() == ""
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("arguments", [("doctor", "{log}"), ("curve", "{log}", "--sample", "1")])
def test_a_full_temporary_folder_is_one_line(
    arguments: tuple[str, ...],
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        return Path("/dev/full").open("r+b", buffering=0)

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    assert main([argument.format(log=files / "log.jsonl") for argument in arguments]) == 2
    err = capsys.readouterr().err
    assert "No space left on device (TMPDIR names another folder)" in err
    assert err.count("\n") == 1


def test_a_scratch_file_reads_what_was_written() -> None:
    file = ScratchFile()
    file.write(b"abc")
    file.seek(1)
    assert file.read(5) == b"bc"
    assert os.fstat(file.descriptor()).st_size == 3
    file.close()


@pytest.mark.parametrize("arguments", [("simulate", ""), ("report", ""), ("template", "")])
def test_empty_names_are_named(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], files: Path
) -> None:
    assert main(list(arguments)) == 2
    assert "is empty" in capsys.readouterr().err
    assert main(["simulate", str(files / "log.jsonl"), "--json", ""]) == 2
    assert "--json" in capsys.readouterr().err


def test_a_folder_that_may_not_be_entered_is_named(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stat = Path.stat

    def refuse(self: Path, **how: Any) -> Any:
        if "locked" in self.parts:
            raise PermissionError(13, "Permission denied", str(self))
        return stat(self, **how)

    monkeypatch.setattr(Path, "stat", refuse)
    for arguments in (
        ("simulate", "locked/a.jsonl"),
        ("simulate", files / "log.jsonl", "--json", "locked/out.json"),
        ("plan", "--model", "locked/model", *MEMORY),
        ("template", "locked/model"),
        ("report", "locked/run.json"),
    ):
        assert main(list(map(str, arguments))) == 2
        err = capsys.readouterr().err
        assert "locked" in err
        assert "permission denied" in err.lower()
        assert err.count("\n") == 1
