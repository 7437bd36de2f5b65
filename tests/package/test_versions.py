"""The core at its declared lower bounds, and on the newest Python that the machine has."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.package.environments import CHECKOUT, Environment, install, interpreters, make_environment

pytestmark = pytest.mark.package

OLDEST = (3, 11)
# The control plane, log readers and simulators; a minute on a slow machine.
CORE_TESTS = (
    "tests/cache/test_blocks.py",
    "tests/cache/test_events.py",
    "tests/cache/test_leases.py",
    "tests/cache/test_tree.py",
    "tests/logs",
    "tests/workload",
)


def run_core_tests(environment: Environment) -> None:
    """Run tests of the checkout against the installed wheel."""
    install(environment, "pytest", "pytest-timeout", "hypothesis")
    options = ["-q", "-p", "no:cacheprovider", "-c", str(CHECKOUT / "pyproject.toml")]
    tests = [str(CHECKOUT / test) for test in CORE_TESTS]
    # Appended, the checkout comes after the installed package, which is the one to be tested.
    done = environment.run("-m", "pytest", "--import-mode=append", *options, *tests, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert " passed" in done.stdout


def test_the_core_works_at_its_declared_lower_bounds(wheel: Path, tmp_path: Path) -> None:
    python = interpreters().get(OLDEST)
    if python is None:
        pytest.skip("this machine has no Python 3.11")
    environment = make_environment(tmp_path, python)
    # Bounds of the project itself count as direct ones; the wheel then replaces the checkout.
    install(environment, "--resolution", "lowest-direct", "--requirements", str(CHECKOUT / "pyproject.toml"))
    install(environment, "--no-deps", str(wheel))
    run_core_tests(environment)
    assert environment.command("--help").stdout
    assert environment.has("torch") == []


def test_the_core_works_on_the_newest_python(wheel: Path, tmp_path: Path) -> None:
    found = interpreters()
    newest = max(found, default=OLDEST)
    if newest <= OLDEST:
        pytest.skip("this machine has no Python newer than 3.11")
    environment = make_environment(tmp_path, found[newest])
    install(environment, str(wheel))
    shown = environment.run("-c", "import sys; print(sys.version_info[:2])").stdout
    assert shown == f"{newest}\n"
    run_core_tests(environment)
    assert environment.command("--version").stdout.startswith("radixcache ")
