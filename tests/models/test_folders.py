"""A model folder is written once, whole or not at all."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from radixcache.errors import ModelError
from radixcache.models.folders import build_once, models_home


def test_a_folder_is_built_on_the_first_call_only(tmp_path: Path) -> None:
    calls = []

    def build(folder: Path) -> None:
        calls.append(folder)
        (folder / "config.json").write_text("{}")

    target = tmp_path / "home" / "model"
    assert build_once(target, build) == target
    assert build_once(target, build) == target
    assert len(calls) == 1
    assert (target / "config.json").read_text() == "{}"
    assert (target / "config.json").stat().st_mode & 0o777 == 0o644


def test_a_failed_build_leaves_nothing_and_its_error_passes(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise ModelError("no luck")

    with pytest.raises(ModelError, match="no luck"):
        build_once(tmp_path / "model", build)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_what_a_killed_build_left_is_removed_by_the_next(tmp_path: Path) -> None:
    leftover = tmp_path / ".model.partial-abc"
    leftover.mkdir()
    (leftover / "half").write_text("half")
    build_once(tmp_path / "model", lambda folder: None)
    assert not leftover.exists()


def test_nothing_appears_under_the_name_before_the_build_is_done(tmp_path: Path) -> None:
    target = tmp_path / "model"
    seen = []
    build_once(target, lambda folder: seen.append(target.exists()))
    assert seen == [False]


def test_of_builders_at_once_one_builds_and_the_others_wait(tmp_path: Path) -> None:
    calls = []

    def build(folder: Path) -> None:
        calls.append(folder)
        time.sleep(0.1)
        (folder / "config.json").write_text("{}")

    found = []

    def work() -> None:
        found.append((build_once(tmp_path / "model", build) / "config.json").is_file())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert found == [True] * 4


def test_a_folder_that_cannot_be_written_is_a_model_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot be written"):
        build_once(tmp_path / "file" / "model", lambda folder: None)


def test_models_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RADIXCACHE_HOME", str(tmp_path / "own"))
    assert models_home() == tmp_path / "own" / "models"
    monkeypatch.delenv("RADIXCACHE_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert models_home() == tmp_path / "xdg" / "radixcache" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert models_home() == Path.home() / ".cache" / "radixcache" / "models"
