"""What the wheel and the sdist hold, and what the wheel asks for."""

from __future__ import annotations

import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from radixcache.extras import EXTRAS
from tests.package.environments import EXAMPLE_LOG, build

pytestmark = pytest.mark.package

CORE = {
    "filelock",
    "gguf",
    "huggingface-hub",
    "jinja2",
    "numpy",
    "pydantic",
    "rich",
    "sortedcontainers",
    "tokenizers",
    "typer",
    "xxhash",
    "zstandard",
}


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


def test_the_wheel_holds_the_packages_their_data_and_the_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        log = archive.read("radixcache/examples/assistant.jsonl")
    assert log == EXAMPLE_LOG.read_bytes()
    for expected in (
        "radixcache/py.typed",
        "radixcache/pricing/tables.toml",
        "radixcache/report/html/static/page.html",
        "radixcache_kernels/__init__.py",
        "radixcache_kernels/py.typed",
    ):
        assert expected in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "radixcache",
        "radixcache_kernels",
    }


def test_the_core_asks_for_no_engine_and_nobody_for_tools_of_development(wheel: Path) -> None:
    requirements = metadata(wheel).get_all("Requires-Dist") or []
    names = [requirement.split(";")[0].split(">")[0].split("<")[0].strip() for requirement in requirements]
    core = {
        name.lower().replace("_", "-")
        for name, requirement in zip(names, requirements, strict=True)
        if "extra ==" not in requirement
    }
    assert core == CORE
    assert not {"pytest", "ruff", "mypy", "selenium", "hypothesis", "mkdocs"} & set(names)


def test_every_extra_that_messages_name_exists(wheel: Path) -> None:
    provided = set(metadata(wheel).get_all("Provides-Extra") or [])
    assert {*EXTRAS, "gguf", "html", "web", "all"} == provided


def test_the_metadata_names_licence_authors_and_version(wheel: Path) -> None:
    from radixcache import __version__

    found = metadata(wheel)
    assert (found["License-Expression"], found["Version"]) == ("Apache-2.0", __version__)
    assert found["Author"] == "the radixcache developers"
    assert found["Requires-Python"] == ">=3.11"


def test_the_sdist_holds_what_a_wheel_is_built_of(tmp_path: Path) -> None:
    with tarfile.open(build(tmp_path, "sdist")) as archive:
        names = {"/".join(Path(name).parts[1:]) for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "examples/logs/assistant.jsonl"} <= names
    assert {"radixcache/__init__.py", "kernels/radixcache_kernels/__init__.py"} <= names
    assert not [name for name in names if name.split("/")[0] in ("benchmarks", ".ci", "docs", ".venv")]
