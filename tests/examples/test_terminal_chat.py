"""examples/terminal_chat.py: turns, commands, end of input, Ctrl-C."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from rich.console import Console

from examples import terminal_chat as example
from radixcache import Engine, SamplingParams

ROOT = Path(__file__).parents[2]
SYSTEM = "You are a careful assistant who answers in a few words, and only about bicycles."
USAGE = re.compile(r"(\d+) prompt tokens, (\d+) cached \((\d+)%\), (\d+) new, first after \d+ ms")


def make_chat(engine: Engine, out: io.StringIO, max_tokens: int = 12) -> example.TerminalChat:
    engine.reset_cache()
    console = Console(file=out, width=80)
    return example.TerminalChat(engine, console, SYSTEM, SamplingParams(max_tokens=max_tokens))


def usages(text: str) -> list[tuple[int, int, int, int]]:
    return [tuple(map(int, match)) for match in USAGE.findall(text)]  # type: ignore[misc]


def ids_of(engine: Engine, text: str) -> list[int]:
    assert engine.model.tokenizer is not None
    ids: list[int] = engine.model.tokenizer.encode(text)
    return ids


def test_each_turn_reuses_all_before_it(engine: Engine) -> None:
    out = io.StringIO()
    make_chat(engine, out).run(iter(["Which tyre?", "And the tube?", "Thanks"]))
    first, second, third = usages(out.getvalue())
    assert first[1] == 0
    for before, after in ((first, second), (second, third)):
        # All but the answer's last token, which was sampled and not computed.
        assert after[1] == before[0] + before[3] - 1
        assert after[2] == round(100 * after[1] / after[0])


def test_a_new_conversation_reuses_the_system_prompt(engine: Engine) -> None:
    out = io.StringIO()
    make_chat(engine, out).run(iter(["Which tyre?", "/new", "Other question?"]))
    _, fresh = usages(out.getvalue())
    head = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
    assert fresh[1] == len(ids_of(engine, head))


def test_commands(engine: Engine) -> None:
    out = io.StringIO()
    chat = make_chat(engine, out)
    chat.run(iter(["", "  ", "/what", "Hello", "/stats", "/quit", "never said"]))
    assert [message["content"] for message in chat.chat.messages if message["role"] == "user"] == ["Hello"]
    assert example.HELP in out.getvalue()
    assert "blocks free" in out.getvalue()
    assert "computed because: never_seen" in out.getvalue()


def test_a_message_that_does_not_fit_keeps_the_chat(engine: Engine) -> None:
    out = io.StringIO()
    make_chat(engine, out).run(iter(["Hello", "x" * 5000, "Still there?"]))
    assert "/new starts over" in out.getvalue()
    first, second = usages(out.getvalue())
    assert second[1] == first[0] + first[3] - 1


class Interrupting(io.StringIO):
    """A terminal whose user presses Ctrl-C once, when a given number of pieces has been written."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def write(self, text: str) -> int:
        written = super().write(text)
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)
        return written


@pytest.fixture
def heeding_ctrl_c() -> Iterator[None]:
    """A shell starts what it puts in the background with interrupts ignored; these tests need them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeding_ctrl_c")
def test_ctrl_c_ends_the_answer_and_keeps_the_chat(engine: Engine) -> None:
    out = Interrupting(after=4)
    chat = make_chat(engine, out, max_tokens=2000)
    chat.run(iter(["Tell me all", "/stats"]))
    (usage,) = usages(out.getvalue())
    assert " [stopped]" in out.getvalue()
    assert 4 <= usage[3] < 2000
    assert engine.stats().running == 0
    assert engine.stats().cache.leases == 0
    chat.run(iter(["/new", "/quit"]))
    assert chat.chat.last_usage is None


def test_prompts_from_the_command_line(model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example.main(model=str(model_folder), system="", max_tokens=5, prompt=["Hi", "More \x1b[31m?"])
    printed = capsys.readouterr().out
    assert len(usages(printed)) == 2
    assert "you> Hi\n" in printed
    assert "\x1b" not in printed


def test_a_missing_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as stopped:
        example.main(model=str(tmp_path / "missing"), system="", max_tokens=5, prompt=["Hi"])
    assert stopped.value.exit_code == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.usefixtures("heeding_ctrl_c")
def test_a_real_terminal_session_with_ctrl_c_and_end_of_input(model_folder: Path) -> None:
    command = [
        sys.executable,
        "examples/terminal_chat.py",
        "--model",
        str(model_folder),
        "--max-tokens",
        "3500",
    ]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_WAIT_POLICY": "passive", "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"caf\xe9?\n")  # not UTF-8
        process.stdin.flush()
        seen = b""
        while not re.search(rb"you> [a-z]{3}", seen):
            byte = process.stdout.read(1)
            assert byte, process.communicate()[1].decode()
            seen += byte
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors.decode()
    text = (seen + rest).decode()
    assert "[stopped]" in text
    (usage,) = usages(text)
    assert usage[3] < 3500
    assert errors == b""
