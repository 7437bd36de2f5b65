"""EngineConfig refuses what it cannot do, naming setting and value, before any model is loaded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from radixcache import Engine, EngineConfig


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *((name, "no") for name in ("cache", "explain", "graphs")),
        *(
            (name, value)
            for name in ("block_size", "max_batch_tokens", "max_running", "max_passes", "cache_tokens")
            for value in (1.5, 16.0, "16", True, float("nan"), -1, 10**20)
        ),
        *((name, None) for name in ("block_size", "max_batch_tokens", "max_running", "max_passes")),
        *((name, 0) for name in ("block_size", "max_batch_tokens", "max_running", "cache_tokens")),
        ("block_size", 3),
        ("block_size", 512),
        *(("cache_gb", value) for value in (0, -1.0, float("nan"), float("inf"), "1", True)),
        *(("cache_memory", value) for value in (0, -1, 1.5, True, "", "four", "4GBB", "nan")),
        *(
            (name, value)
            for name in ("policy", "backend", "kv_dtype")
            for value in ("LRU", None, [], torch.float16)
        ),
    ],
)
def test_a_bad_setting_is_refused_by_name_and_value(setting: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{setting} must be .*got "):
        EngineConfig(**{setting: value})


def test_integers_of_numpy_are_integers() -> None:
    config = EngineConfig(block_size=np.int64(8), cache_tokens=np.int32(64))  # type: ignore[arg-type]
    assert type(config.block_size) is type(config.cache_tokens) is int


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"cache_token": 5}, "cache_token"), ({"policy": "x"}, "policy"), ({"cache_gb": "1"}, "cache_gb")],
)
def test_settings_are_looked_at_before_the_model(
    settings: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radixcache.engine.engine.load_model", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises((TypeError, ValueError), match=message):
        Engine.from_pretrained("any", **settings)


def test_memory_as_bytes_or_text() -> None:
    sizes = (4 * 10**9, "4GB", "4 gb", "4,000MB")
    assert {EngineConfig(cache_memory=size).cache_bytes(None) for size in sizes} == {4 * 10**9}
    assert EngineConfig(cache_memory="4GiB").cache_bytes(None) == 4 << 30
    assert EngineConfig(cache_gb=4).cache_bytes(None) == 4 << 30
    with pytest.raises(ValueError, match="cache_memory must have a unit, such as 4GB or 4GiB, got '4'"):
        EngineConfig(cache_memory="4")
    with pytest.raises(ValueError, match="give cache_gb or cache_memory, not both"):
        EngineConfig(cache_memory="4GB", cache_gb=4)
