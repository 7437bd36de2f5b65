"""The examples in docs/policies.md run, and it describes every policy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from radixcache.cache.eviction import policies

PAGE = (Path(__file__).parents[2] / "docs" / "policies.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.S)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 2


@pytest.mark.parametrize("source", EXAMPLES)
def test_an_example_runs(source: str) -> None:
    exec(compile(source, "docs/policies.md", "exec"), {"__name__": "example"})


def test_every_policy_is_described() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE, re.M)) == set(policies)
