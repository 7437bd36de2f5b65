"""The wheel of this checkout, and bare environments that it is installed into."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
EXAMPLE_LOG = CHECKOUT / "examples" / "logs" / "assistant.jsonl"
_INSTALL_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment without anything of this checkout.

    Attributes:
        folder: where it is.
        home: the cache folder that commands run in it use, and their working directory; outside the checkout.
    """

    folder: Path
    home: Path

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a Python command line in it."""
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "COLUMNS")}
        environment["RADIXCACHE_HOME"] = str(self.home / "cache")
        done = subprocess.run(
            [self.python, *arguments],
            capture_output=True,
            text=True,
            cwd=self.home,
            env=environment,
            timeout=_INSTALL_SECONDS,
            check=False,
        )
        if check and done.returncode != 0:
            pytest.fail(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the installed command `radixcache`."""
        return self.run(str(self.folder / "bin" / "radixcache"), *arguments, check=check)

    def has(self, *modules: str) -> list[str]:
        """Those of the modules that are installed in it."""
        code = f"from importlib.util import find_spec; print(*[m for m in {modules!r} if find_spec(m)])"
        return self.run("-c", code).stdout.split()


def build(folder: Path, kind: str = "wheel") -> Path:
    """Build the wheel or the sdist of this checkout into a folder."""
    if find_spec("hatchling") is None:
        pytest.skip("hatchling, which builds the wheel, is not installed")
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True, timeout=_INSTALL_SECONDS)
    (built,) = folder.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


def uv(*arguments: str) -> None:
    """Run uv, which makes environments and installs into them in a fraction of pip's time.

    A failure is the test's, with what uv says.
    """
    if find_spec("uv") is None:
        pytest.skip("uv, which makes the bare environments, is not installed")
    command = [sys.executable, "-m", "uv", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
    if done.returncode != 0:
        pytest.fail(f"uv {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")


def make_environment(folder: Path, python: str = sys.executable) -> Environment:
    """An empty virtual environment of an interpreter."""
    uv("venv", "--python", python, str(folder / "venv"))
    home = folder / "home"
    home.mkdir()
    return Environment(folder / "venv", home)


def install(environment: Environment, *requirements: str) -> None:
    """Install requirements; options of `uv pip install` may be among them."""
    uv("pip", "install", "--python", environment.python, *requirements)


def interpreters() -> dict[tuple[int, int], str]:
    """The Pythons from 3.11 on that this machine has, by version: on PATH and among pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = [*map(Path, os.environ["PATH"].split(os.pathsep)), *sorted(pyenv.glob("versions/3.*/bin"))]
    found: dict[tuple[int, int], str] = {}
    for folder in folders:
        for file in sorted(folder.glob("python3.*")):
            named = re.fullmatch(r"python3\.(\d+)", file.name)
            if named and int(named[1]) >= 11 and _runs(file):
                found.setdefault((3, int(named[1])), str(file))
    return found


def _runs(python: Path) -> bool:
    """Whether it is a Python: a manager's stand-in for a version that is not selected only says so."""
    try:
        return (
            subprocess.run([python, "-c", ""], capture_output=True, timeout=60, check=False).returncode == 0
        )
    except OSError:
        return False
