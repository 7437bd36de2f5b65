"""Layouts of layers that differ, and models that have them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.models_table import WORKS, try_type
from benchmarks.tiny_types import tiny_config
from radixcache.errors import ModelError
from radixcache.kv.formats import KV_DTYPES
from radixcache.kv.layout import KVLayout, LayerGroup
from radixcache.kv.pool import PagedPool

CPU = torch.device("cpu")
F32 = torch.float32


def mixed(kv_dtype: str = "auto", block_size: int = 4) -> KVLayout:
    """Three sliding layers and two full ones with fewer, wider heads."""
    return KVLayout(
        (
            LayerGroup((0, 1, 3), 3, 16, F32, kv_dtype, window=24),
            LayerGroup((2, 4), 1, 48, F32, kv_dtype),
        ),
        block_size,
    )


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
def test_a_token_weighs_what_its_layers_do(kv_dtype: str) -> None:
    layout = mixed(kv_dtype)
    alone = [
        KVLayout.uniform(3, 3, 16, 4, F32, kv_dtype).bytes_per_token,
        KVLayout.uniform(2, 1, 48, 4, F32, kv_dtype).bytes_per_token,
    ]
    assert layout.bytes_per_token == sum(alone)
    pool = PagedPool(layout, 7, CPU)
    assert sum(storage.nbytes for storage in pool.storages) == 8 * layout.bytes_per_block


def test_layers_are_found_in_their_groups() -> None:
    layout = mixed()
    pool = PagedPool(layout, 2, CPU)
    assert [tuple(place) for place in layout.places] == [(0, 0), (0, 1), (1, 0), (0, 2), (1, 1)]
    assert [tuple(keys.shape) for keys in pool.keys] == [
        (3, 4, 1, 48) if layer in (2, 4) else (3, 4, 3, 16) for layer in range(5)
    ]
    assert layout.group_of(3).window == 24
    assert layout.group_of(4).window is None
    pool.values[3].fill_(5.0)
    assert (pool.groups[0].values[2] == 5.0).all()
    assert all((pool.values[layer] == 0.0).all() for layer in (0, 1, 2, 4))


def test_layouts_that_group_layers_differently_have_different_fingerprints() -> None:
    first = mixed()
    swapped = KVLayout(
        (LayerGroup((0, 1, 2), 3, 16, F32, window=24), LayerGroup((3, 4), 1, 48, F32)), first.block_size
    )
    assert len({first.fingerprint, swapped.fingerprint, mixed(block_size=8).fingerprint}) == 3
    assert mixed().fingerprint == first.fingerprint


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        (((0, 1), (1, 2)), "groups must hold each layer from 0 on once"),
        (((0, 2),), "groups must hold each layer from 0 on once"),
        (((0,), ()), "must have at least 1 layer"),
    ],
)
def test_groups_hold_every_layer_once(layers: tuple[tuple[int, ...], ...], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        KVLayout(tuple(LayerGroup(each, 1, 16, F32) for each in layers), 4)


def test_numbers_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="num_kv_heads must be at least 1, got 0"):
        KVLayout.uniform(1, 0, 16, 4, F32)
    with pytest.raises(ValueError, match="window must be at least 1, got 0"):
        KVLayout.uniform(1, 1, 16, 4, F32, window=0)
    with pytest.raises(ValueError, match="block_size must be at least 1, got 0"):
        KVLayout.uniform(1, 1, 16, 0, F32)


def test_a_configuration_gives_the_groups() -> None:
    config = tiny_config("gemma4_text", global_head_dim=32)
    layout = KVLayout.of(config, 16, F32)
    kinds = config.layer_types
    assert len(layout.groups) == 2
    for layer, kind in enumerate(kinds):
        group = layout.group_of(layer)
        assert (group.head_dim, group.window) == ((16, 24) if kind == "sliding_attention" else (32, None))


def test_a_configuration_that_states_no_shape_is_refused() -> None:
    config = SimpleNamespace(
        model_type="odd",
        num_hidden_layers=2,
        hidden_size=32,
        num_attention_heads=2,
        num_key_value_heads=[2, 1],
        get_text_config=lambda decoder: config,
    )
    with pytest.raises(ModelError, match=r"num_key_value_heads of odd must be at least 1, got \[2, 1\]"):
        KVLayout.of(config, 16, F32)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("gemma4_text", {"global_head_dim": 32}),
        ("gemma4_text", {"global_head_dim": 32, "num_global_key_value_heads": 1, "attention_k_eq_v": True}),
        ("gemma4_text", {}),
    ],
)
def test_models_whose_layers_differ_give_the_tokens_of_transformers(
    kind: str, changes: dict[str, Any]
) -> None:
    outcome = try_type(kind, changes)
    assert (outcome.result, outcome.reason) == (WORKS, "")
