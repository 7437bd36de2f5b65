"""A transformers model in memory becomes one that can be served, or says why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, LlamaModel

from radixcache.errors import ModelError
from radixcache.models import LoadedModel, load_model
from tests.models.test_load import SIZES


def llama(**changes: Any) -> Any:
    torch.manual_seed(3)
    return LlamaForCausalLM(LlamaConfig(**SIZES | changes))


def test_it_is_what_loading_it_from_a_folder_gives(tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path)
    stored = load_model(str(tmp_path), device="cpu", dtype="float32")
    ours = LoadedModel.of(llama(), name=str(tmp_path))
    assert ours.fingerprint == stored.fingerprint
    for field in ("name", "tokenizer", "eos_token_ids", "max_context", "device", "dtype"):
        assert getattr(ours, field) == getattr(stored, field)
    assert not ours.model.training


def test_its_name_is_where_it_came_from(tmp_path: Path) -> None:
    assert LoadedModel.of(llama()).name == "LlamaForCausalLM"
    llama().save_pretrained(tmp_path)
    assert LoadedModel.of(LlamaForCausalLM.from_pretrained(tmp_path)).name == str(tmp_path)


def test_a_subclass_is_a_causal_language_model_too() -> None:
    class Mine(LlamaForCausalLM):
        pass

    assert LoadedModel.of(Mine(LlamaConfig(**SIZES))).name == "Mine"


@pytest.mark.parametrize("thing", [None, "smollm2-135m", torch.nn.Linear(2, 2)])
def test_anything_else_is_a_type_error(thing: Any) -> None:
    with pytest.raises(TypeError, match=f"must be a transformers model, got {type(thing).__name__}"):
        LoadedModel.of(thing)


@pytest.mark.parametrize("kind", [LlamaModel, LlamaForSequenceClassification])
def test_models_without_a_language_head_are_refused(kind: Any) -> None:
    with pytest.raises(ModelError, match=f"^x: {kind.__name__} is no causal language model"):
        LoadedModel.of(kind(LlamaConfig(**SIZES)), name="x")


def test_weights_in_other_places_or_types_are_refused() -> None:
    with pytest.raises(ModelError, match=r"x: its dtype must be one of .*, got torch.float64"):
        LoadedModel.of(llama().double(), name="x")
    with torch.device("meta"):
        nowhere = llama()
    with pytest.raises(ModelError, match=r"x: its weights must be on one device, they are on meta"):
        LoadedModel.of(nowhere, name="x")
