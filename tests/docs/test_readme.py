"""Code of the README and the guide runs, and prints what they say."""

from __future__ import annotations

import io
import re
import shlex
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from radixcache.cli import main
from tests.docs.blocks import CHECKOUT, Block, blocks, commands

README = CHECKOUT / "README.md"
PAGES = [README, CHECKOUT / "docs" / "guide.md"]
LINKING = [README, *(CHECKOUT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"))]

_LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?\)")


def cases(found: list[tuple[Block, Any]]) -> list[Any]:
    """Parameters that are marked as needing the model where the block is."""
    return [
        pytest.param(value, id=block.where, marks=[pytest.mark.model] if block.needs_model else [])
        for block, value in found
    ]


PYTHON = [(block, block) for page in PAGES for block in blocks(page, "python")]
COMMANDS = [
    (block, command) for page in PAGES for block in blocks(page, "console") for command in commands(block)
]


@pytest.mark.parametrize("block", cases(PYTHON))
def test_python_blocks_run_and_print_what_is_said(block: Block) -> None:
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(block.code, block.where, "exec"), {"__name__": block.where})
    if block.printed is not None:
        assert printed.getvalue() == block.printed


@pytest.mark.parametrize("command", cases(COMMANDS))
def test_command_lines_run(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "examples").symlink_to(CHECKOUT / "examples")
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command)[1:]) == 0
    assert capsys.readouterr().out


def test_the_readme_has_blocks_to_run() -> None:
    """The parser finds what is there: with no case the tests above would pass unseen."""
    text = README.read_text()
    assert len(blocks(README, "python")) == text.count("```python") >= 3
    assert [block.printed for block in blocks(README, "python")].count(None) == 0
    assert len([1 for block in blocks(README, "console") for _ in commands(block)]) >= 2


def test_commands_named_in_the_readme_exist(capsys: pytest.CaptureFixture[str]) -> None:
    named = set(re.findall(r"`radixcache (\w+)", README.read_text()))
    assert {"replay", "simulate", "curve", "plan", "doctor", "report"} <= named
    for name in named:
        assert main([name, "--help"]) == 0
        options = capsys.readouterr().out
        for line in re.findall(rf"`radixcache {name}([^`]*)`", README.read_text()):
            for option in re.findall(r"--[\w-]+", line):
                assert option in options


@pytest.mark.parametrize("page", LINKING, ids=lambda page: page.name)
def test_links_to_files_of_the_checkout_lead_somewhere(page: Path) -> None:
    missing = [link for link in _LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert missing == []


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) < 150
