"""What the package exports can be imported, is documented and is listed in order."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

PACKAGES = ("radixcache", "radixcache.cache")
LIGHT = ("radixcache.cache",)
NO_DOCSTRINGS = {"__version__", "CacheEvent", "Namespace", "policies"}  # a string, unions and a dict


def homes(package: ModuleType) -> dict[str, str]:
    found: dict[str, str] = package._HOMES
    return found


@pytest.mark.parametrize("name", PACKAGES)
def test_every_exported_name_is_there_and_documented(name: str) -> None:
    package = import_module(name)
    for exported in package.__all__:
        value = getattr(package, exported)
        if exported not in NO_DOCSTRINGS:
            document = inspect.getdoc(value)
            assert document, f"{exported} has no docstring"
            own = value.__dict__.get("__doc__") if inspect.isclass(value) else value.__doc__
            assert own, f"{exported} has only an inherited docstring"
            assert not document.startswith(f"{exported}("), f"{exported} has only a generated docstring"


@pytest.mark.parametrize("name", PACKAGES)
def test_public_methods_are_documented(name: str) -> None:
    package = import_module(name)
    for exported in package.__all__:
        value = getattr(package, exported)
        if inspect.isclass(value) and value.__module__.startswith("radixcache."):
            for method, member in vars(value).items():
                if not method.startswith("_") and (
                    inspect.isfunction(member) or isinstance(member, property)
                ):
                    assert inspect.getdoc(getattr(value, method)), f"{exported}.{method} has no docstring"


@pytest.mark.parametrize("name", PACKAGES)
def test_the_lists_agree_and_are_in_order(name: str) -> None:
    package = import_module(name)
    lazy = set(package.__all__) - {"__version__"}
    assert set(homes(package)) == lazy
    assert list(homes(package)) == sorted(homes(package))
    assert len(set(package.__all__)) == len(package.__all__)
    assert package.__file__ is not None
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    typed = {
        alias.name
        for block in ast.walk(tree)
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == lazy
    assert dir(package) == sorted(package.__all__)


@pytest.mark.parametrize("name", PACKAGES)
def test_an_unknown_name_is_no_attribute(name: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'Nothing'"):
        import_module(name).Nothing  # noqa: B018


@pytest.mark.parametrize("name", LIGHT)
def test_the_control_plane_is_imported_without_torch(name: str) -> None:
    code = (
        f"import sys, {name} as package\n"
        "[getattr(package, name) for name in package.__all__]\n"
        "assert not {'torch', 'transformers', 'triton'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
