"""A hook of the documentation's build: api.md lists every exported name, and each must be documented.

The page has a line `<!-- names: PREFIX ... -->` in each section; it is replaced by the documentation of the
names that modules with one of these prefixes export through `radixcache`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import griffe
from mkdocs.exceptions import PluginError

import radixcache

_MARK = re.compile(r"<!-- names: (.+?) -->")


def homes() -> dict[str, str]:
    """Every exported name -> the module that it comes from; ValueError if a module exports a bare value."""
    return {name: home for name, home in radixcache._HOMES.items() if name in radixcache.__all__}


def section(prefixes: list[str]) -> list[str]:
    """The exported names from modules that begin with one of the prefixes, sorted."""
    return sorted(name for name, home in homes().items() if home.startswith(tuple(prefixes)))


def undocumented(package: griffe.Object) -> list[str]:
    """Exported classes and functions, and their public methods, that have no docstring.

    A method that overrides a documented one has its documentation.
    """
    return [
        found.path for name in sorted(homes()) for found in _public(package[name]) if not _documented(found)
    ]


def _documented(found: Any) -> bool:
    if found.docstring is not None and found.docstring.value.strip():
        return True
    bases = found.parent.mro() if found.parent is not None and found.parent.is_class else []
    return any(found.name in base.members and _documented(base.members[found.name]) for base in bases)


def _public(found: Any) -> Iterator[Any]:
    if found.is_alias:
        found = found.final_target
    yield found
    if found.is_class:
        for name, member in found.members.items():
            method = member.is_function or (member.is_attribute and "property" in member.labels)
            if method and not name.startswith("_") and not member.is_alias:
                yield member


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in the API reference; PluginError if a name would be missing from it or has no documentation."""
    if page.file.src_uri != "api.md":
        return markdown
    listed: list[str] = []

    def names(mark: re.Match[str]) -> str:
        found = section(mark[1].split())
        listed.extend(found)
        return "\n".join(f"::: radixcache.{name}" for name in found)

    filled = _MARK.sub(names, markdown)
    if sorted(listed) != sorted(homes()):
        wrong = sorted(set(homes()) - set(listed)) or sorted({n for n in listed if listed.count(n) > 1})
        raise PluginError(f"api.md must list every exported name once; not so: {', '.join(wrong)}")
    without = undocumented(griffe.load("radixcache", search_paths=[".", "kernels"], resolve_aliases=True))
    if without:
        raise PluginError(f"public names without a docstring: {', '.join(without)}")
    return filled
