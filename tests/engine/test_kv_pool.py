"""What a pool stores, what it weighs, and what comes back."""

from __future__ import annotations

import random

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from radixcache import EngineConfig
from radixcache.cache.lease import BlockCopy
from radixcache.engine.backends.torch.backend import TorchBackend
from radixcache.kv.formats import KV_DTYPES
from radixcache.kv.layout import KVLayout
from radixcache.kv.pool import PagedPool

CPU = torch.device("cpu")
# What a number of a head may be off by, as a part of the head's greatest number: half a step of an 8-bit
# code, or of 63 (keys) or 15 (values) steps between the least and the greatest.
KEY_ERROR = {"fp16": 2**-11, "bf16": 2**-8, "fp8": 2**-4, "int8": 0.5 / 127, "int4": 1 / 63}
VALUE_ERROR = KEY_ERROR | {"int4": 1 / 15}


def layout(
    kv_dtype: str, head_dim: int = 64, block_size: int = 4, dtype: torch.dtype = torch.float32
) -> KVLayout:
    return KVLayout.uniform(2, 3, head_dim, block_size, dtype, kv_dtype)


@pytest.mark.parametrize(
    ("kv_dtype", "dtype", "head_bytes"),
    [
        ("auto", torch.float32, 2 * 256),
        ("auto", torch.bfloat16, 2 * 128),
        ("fp16", torch.float32, 2 * 128),
        ("bf16", torch.bfloat16, 2 * 128),
        ("fp8", torch.float32, 2 * (64 + 4)),
        ("int8", torch.bfloat16, 2 * (64 + 4)),
        ("int4", torch.bfloat16, (32 + 8 + 16) + (32 + 8)),
    ],
)
def test_a_token_weighs_its_codes_and_its_scales(kv_dtype: str, dtype: torch.dtype, head_bytes: int) -> None:
    one = layout(kv_dtype, dtype=dtype)
    assert one.bytes_per_token == 2 * 3 * head_bytes
    pool = PagedPool(one, 7, CPU)
    assert sum(storage.nbytes for storage in pool.storages) == 8 * one.bytes_per_block
    assert one.blocks_in(10 * one.bytes_per_block + 1) == 10


@pytest.mark.parametrize("kv_dtype", [name for name in KV_DTYPES if name != "auto"])
@settings(max_examples=30, deadline=None)
@given(
    head_dim=st.sampled_from([16, 48, 64, 80, 128]),
    block_size=st.sampled_from([1, 8, 16]),
    size=st.sampled_from([1e-3, 1.0, 300.0]),
    offset=st.sampled_from([0.0, 2.0]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=st.integers(0, 1000),
)
def test_what_is_written_comes_back_within_a_step(
    kv_dtype: str, head_dim: int, block_size: int, size: float, offset: float, dtype: torch.dtype, seed: int
) -> None:
    pool = PagedPool(layout(kv_dtype, head_dim, block_size, dtype), 32 // block_size, CPU)
    for storage in pool.storages:
        storage.fill_(float("nan") if storage.is_floating_point() else 77)
    generator = torch.Generator().manual_seed(seed)
    key, value = ((torch.randn(2, 9, 3, head_dim, generator=generator) + offset) * size).to(dtype)
    slots = torch.tensor(random.Random(seed).sample(range(32), 9))
    pool.write(1, slots, key, value)
    rounding = torch.finfo(dtype).eps
    for sent, found, error in zip(
        (key, value), pool.read_slots(1, slots), (KEY_ERROR[kv_dtype], VALUE_ERROR[kv_dtype]), strict=True
    ):
        assert found.dtype == dtype
        bound = sent.double().abs().amax(-1, keepdim=True) * (error * 1.02 + rounding)
        # Below their normal numbers, codes and float16 are at a fixed distance.
        assert ((found.double() - sent.double()).abs() <= bound + 2**-24).all()
    blocks = torch.arange(32 // block_size)
    for whole, single in zip(pool.read_blocks(1, blocks), pool.read_slots(1, slots), strict=True):
        assert torch.equal(whole.flatten(0, 1)[slots], single)


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
def test_copies_and_clearing_reach_everything_that_is_stored(kv_dtype: str) -> None:
    pool = PagedPool(layout(kv_dtype), 6, CPU)
    backend = TorchBackend(pool)
    key, value = torch.randn(2, 24, 3, 64, generator=torch.Generator().manual_seed(2))
    for at in range(2):
        pool.write(at, torch.arange(24), key, value)
    before = [part.clone() for part in pool.read_blocks(1, torch.arange(6))]
    backend.copy([BlockCopy(0, 5, 3), BlockCopy(2, 4, 4)])
    after = pool.read_blocks(1, torch.arange(6))
    for old, new in zip(before, after, strict=True):
        assert torch.equal(new[5, :3], old[0, :3])
        assert torch.equal(new[5, 3:], old[5, 3:])
        assert torch.equal(new[4], old[2])
        assert torch.equal(new[:4], old[:4])
    backend.clear([1, 3])
    for old, new in zip(after, pool.read_blocks(1, torch.arange(6)), strict=True):
        assert (new[[1, 3]] == 0).all()
        assert torch.equal(new[[0, 2, 4, 5]], old[[0, 2, 4, 5]])


def test_layouts_that_cannot_exchange_blocks_have_different_fingerprints() -> None:
    layouts = [layout(name) for name in KV_DTYPES]
    layouts += [
        layout("int8", head_dim=128),
        layout("int8", block_size=8),
        layout("auto", dtype=torch.bfloat16),
    ]
    prints = {one.fingerprint for one in layouts}
    # bfloat16 is stored alike whether the model computes in it or not.
    assert len(prints) == len(layouts) - 1
    assert layout("auto").fingerprint == layout("auto").fingerprint


def test_a_gpu_without_e4m3_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    with pytest.raises(ValueError, match=r"'fp8', which needs compute capability 8\.9; cuda:0 has 8\.0"):
        PagedPool(layout("fp8"), 4, torch.device("cuda:0"))


def test_unknown_and_impossible_formats_are_named() -> None:
    with pytest.raises(
        ValueError, match="kv_dtype must be one of auto, fp16, bf16, fp8, int8, int4, got 'int3'"
    ):
        EngineConfig(kv_dtype="int3")
    with pytest.raises(ValueError, match=r"kv_dtype must be one of auto, .*, got 'nvfp4'"):
        layout("nvfp4")
    with pytest.raises(ValueError, match="'int4', which needs heads of a multiple of 16 elements, not 40"):
        layout("int4", head_dim=40)
