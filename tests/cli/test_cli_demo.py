"""`radixcache demo` takes the example log as far as what is installed can take it."""

from __future__ import annotations

from pathlib import Path

import pytest

from radixcache.cli import main
from tests.docs.blocks import CHECKOUT

EXAMPLE_LOG = CHECKOUT / "examples" / "logs" / "assistant.jsonl"


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bytes]]:
    """Commands that were run, each with the log that it was given."""
    found: list[tuple[str, bytes]] = []
    for name in ("replay", "simulate", "doctor"):

        def command(logs: list[str], name: str = name) -> None:
            (log,) = logs
            found.append((name, Path(log).read_bytes()))

        monkeypatch.setattr(f"radixcache.cli.{name}.{name}_command", command)
    return found


def test_with_the_engine_the_log_is_replayed(
    ran: list[tuple[str, bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo"]) == 0
    assert ran == [("replay", EXAMPLE_LOG.read_bytes())]
    assert "Replaying the example log" in capsys.readouterr().err


def test_without_it_the_log_is_simulated_and_diagnosed_and_the_extra_named(
    ran: list[tuple[str, bytes]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radixcache.extras.find_spec", lambda name: None if name == "torch" else True)
    assert main(["demo"]) == 0
    assert [name for name, _ in ran] == ["simulate", "doctor"]
    error = capsys.readouterr().err
    assert "torch not installed" in error
    assert 'pip install "radixcache[engine]"' in error
