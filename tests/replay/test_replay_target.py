"""What a log is replayed on: settings that reach the engine, and those that are refused in time."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

from radixcache.errors import ModelError
from radixcache.models import LoadedModel
from radixcache.replay.room import allocating, check_room
from radixcache.replay.target import load_target
from tests.tiny_models import tiny

CPU = torch.device("cpu")
MEMORY = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the models that were loaded; each is a tiny one."""
    names: list[str] = []

    def load_model(name: str, **options: Any) -> LoadedModel:
        names.append(name)
        return tiny("llama")

    monkeypatch.setattr("radixcache.models.load_model", load_model)
    return names


@pytest.mark.parametrize(("invariant", "setting"), [("auto", "auto"), ("off", False)])
def test_settings_reach_every_engine(loads: list[str], invariant: str, setting: object) -> None:
    target = load_target(
        "m", device="cpu", cache_tokens=640, kv_dtype="bf16", invariant=invariant, concurrency=99
    )
    assert loads == ["m"]
    assert target.invariant == invariant
    for cache in (False, True):
        engine: Any = target.make_engine(cache)
        with engine:
            config = engine.config
            assert (config.cache, config.cache_tokens, config.kv_dtype) == (cache, 640, "bf16")
            assert config.invariant == setting
            assert config.max_running == 99


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"cache_memory": 10**18},
            r"the cache must be at most [\d,.]+ GiB, the memory of cpu, got 931,322,574.6 GiB",
        ),
        ({"cache_tokens": 10**20}, r"cache_tokens must be at most \d+, got 10{20}"),
        ({"block_size": 0}, "block_size must be at least 1, got 0"),
        ({"kv_dtype": "foo"}, "kv_dtype must be one of .*, got 'foo'"),
    ],
)
def test_what_cannot_be_had_is_refused_before_the_model_is_loaded(
    loads: list[str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load_target("m", device="cpu", **options)
    assert loads == []


def test_an_unknown_device_is_refused_before_the_model_is_loaded(loads: list[str]) -> None:
    with pytest.raises(ModelError, match="'foo'"):
        load_target("m", device="foo")
    assert loads == []


def test_tokens_are_measured_by_the_model_once_it_is_known(loads: list[str]) -> None:
    # Of the tiny model a token takes 3 layers of 2 heads of 16 keys and values of 4 bytes.
    size = 3 * 2 * 16 * 2 * 4
    with pytest.raises(ValueError, match=f"cache_tokens must be at most {MEMORY // size:,}, "):
        load_target("m", device="cpu", cache_tokens=MEMORY // size + 1)
    load_target("m", device="cpu", cache_tokens=MEMORY // size)


def test_room_is_checked_to_the_byte() -> None:
    check_room(CPU)
    check_room(CPU, cache_tokens=MEMORY)
    check_room(CPU, cache_memory=MEMORY)
    with pytest.raises(ValueError, match="the cache must be at most"):
        check_room(CPU, cache_memory=MEMORY + 1)
    with pytest.raises(ValueError, match="cache_tokens must be at most"):
        check_room(CPU, cache_tokens=MEMORY + 1)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 1 TiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
)
def test_an_allocator_that_refuses_is_one_line(error: Exception) -> None:
    with (
        pytest.raises(ValueError, match="does not fit in the free memory of cpu"),
        allocating(CPU),
    ):
        raise error


def test_other_failures_of_an_engine_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="illegal memory access"), allocating(CPU):
        raise RuntimeError("an illegal memory access was encountered")
