"""Outcomes of trials are kept between processes, under all that they depend on, and never trusted blindly."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from radixcache.numerics import memory
from radixcache.numerics.memory import fingerprint, remembered_rule
from radixcache.numerics.rules import RowRule

RULE = RowRule(4, (4, 8, 64))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("RADIXCACHE_HOME", str(tmp_path))
    memory.forget()
    yield tmp_path / "numerics"
    memory.forget()


def unexpected() -> RowRule:
    raise AssertionError("tried again")


def test_a_trial_is_made_once_on_a_machine(folder: Path) -> None:
    assert remembered_rule("a", lambda: RULE) == RULE
    assert remembered_rule("b", lambda: None) is None
    memory.forget()  # as another process
    assert remembered_rule("a", unexpected) == RULE
    assert remembered_rule("b", unexpected) is None
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '"x"', '{"a": 5}', '{"a": [4]}', '{"a": [4, 8, 4]}', '{"a": [4, "8"]}', '{"a": [-1, 8]}'],
)
def test_a_damaged_memory_costs_a_trial_and_nothing_else(folder: Path, text: str) -> None:
    folder.mkdir()
    file = folder / f"{fingerprint()}.json"
    file.write_text(text)
    assert remembered_rule("a", lambda: RULE) == RULE
    assert json.loads(file.read_text())["a"] == [4, 4, 8, 64]


def test_a_memory_that_cannot_be_written_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RADIXCACHE_HOME", str(tmp_path / "file"))
    memory.forget()
    assert remembered_rule("a", lambda: RULE) == RULE
    memory.forget()


def test_what_other_processes_added_is_kept(folder: Path) -> None:
    remembered_rule("a", lambda: RULE)
    file = folder / f"{fingerprint()}.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "theirs": [1, 64]}))
    remembered_rule("b", lambda: RULE)
    assert set(json.loads(file.read_text())) == {"a", "b", "theirs"}
    assert [path.name for path in folder.iterdir()] == [file.name]


def test_settings_and_threads_have_fingerprints_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    first = fingerprint()
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert fingerprint() != first
    finally:
        torch.set_num_threads(threads)
    assert fingerprint() == first
    memory._fingerprint.cache_clear()
    assert fingerprint() == first
    monkeypatch.setitem(os.environ, "MKL_SOMETHING", "else")
    memory._fingerprint.cache_clear()
    assert fingerprint() != first
    monkeypatch.undo()
    memory._fingerprint.cache_clear()
