"""Engines over tiny models, closed and checked after each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from radixcache import Engine, EngineConfig
from tests import tiny_models

MakeEngine = Callable[..., Engine]


@pytest.fixture
def make_engine() -> Iterator[MakeEngine]:
    """Makes engines; after the test every block must be free or cached, none leaked."""
    engines: list[Engine] = []

    def make(name: str = "llama", device: str = "cpu", **config: Any) -> Engine:
        settings = {"cache_tokens": 8192} | config
        if settings.get("backend") == "triton" and device == "cpu":
            settings.setdefault("invariant", False)  # the interpreter's products are numpy's
        engine = Engine(tiny_models.tiny(name, device), EngineConfig(**settings))
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        stats = engine.stats().cache
        assert stats.leases == 0
        assert stats.protected_blocks == 0
        assert stats.free_blocks + stats.evictable_blocks == stats.num_blocks
        engine.close()
