"""Folders and names -> loaded models; what cannot be served is refused with the reason."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from radixcache.errors import ModelError
from radixcache.models import dtypes, hub
from radixcache.models.dtypes import choose_device, choose_dtype
from radixcache.models.load import load_model
from radixcache.models.traits import eos_token_ids, max_context
from radixcache.numerics.rules import RowRule

SIZES: dict[str, Any] = {
    "vocab_size": 99,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}


def save(folder: Path, kind: str = "Llama", seed: int = 3, **changes: Any) -> Path:
    torch.manual_seed(seed)
    config = getattr(transformers, f"{kind}Config")(**SIZES | changes)
    getattr(transformers, f"{kind}ForCausalLM")(config).save_pretrained(folder)
    return folder


def load(path: Path | str, **options: Any) -> Any:
    return load_model(
        str(path), **{"device": "cpu", "dtype": "float32", "attn_implementation": "sdpa"} | options
    )


def test_a_folder_without_tokenizer_loads_and_serves_ids(tmp_path: Path) -> None:
    loaded = load(save(tmp_path))
    assert loaded.tokenizer is None
    assert loaded.max_context == 128
    assert loaded.eos_token_ids == {2}
    assert (loaded.device.type, loaded.dtype) == ("cpu", torch.float32)
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


def test_a_local_folder_touches_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("network was touched")

    save(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert load(tmp_path).max_context == 128


def test_loading_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save(tmp_path)
    capfd.readouterr()
    load(tmp_path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_weights_come_in_the_dtype_asked_for(tmp_path: Path, dtype: str) -> None:
    loaded = load(save(tmp_path), dtype=dtype)
    assert loaded.dtype == getattr(torch, dtype)
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {loaded.dtype}


def test_fingerprint_is_of_the_model_and_not_of_its_path(tmp_path: Path) -> None:
    one = load(save(tmp_path / "a")).fingerprint
    assert load(save(tmp_path / "b")).fingerprint == one
    assert load(tmp_path / "a").fingerprint == one


def test_fingerprint_differs_by_weights_dtype_and_rope(tmp_path: Path) -> None:
    marks = {
        load(save(tmp_path / "a")).fingerprint,
        load(tmp_path / "a", dtype="bfloat16").fingerprint,
        load(save(tmp_path / "b", seed=4)).fingerprint,
        load(save(tmp_path / "c", rope_parameters={"rope_type": "default", "rope_theta": 5e5})).fingerprint,
    }
    assert len(marks) == 4


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    save(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 weights: model\.layers\.1\.mlp\.up_proj\.weight$"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("falcon", "computes attention itself"),
        ("gptj", "computes attention itself"),
        ("t5", "encoder-decoder"),
        ("mamba", "recurrent state|linear_attention"),
        ("qwen3_next", "linear_attention"),
        ("llama4_text", "chunked_attention"),
        ("vit", "no causal language model"),
    ],
)
def test_models_that_cannot_be_served_are_refused_with_the_reason(
    tmp_path: Path, kind: str, reason: str
) -> None:
    AutoConfig.for_model(kind).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=reason) as error:
        load(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["StableLm", "Mistral", "Qwen3"])
def test_models_that_dispatch_attention_are_accepted(tmp_path: Path, kind: str) -> None:
    assert load(save(tmp_path, kind)).max_context == 128


def test_paths_that_hold_no_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"without config\.json"):
        load(tmp_path)
    for missing in (tmp_path / "nowhere", "./nowhere", "model.gguf"):
        with pytest.raises(ModelError, match="no such file or folder"):
            load(missing)


def test_a_broken_configuration_is_one_line_that_names_the_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{not json")
    with pytest.raises(ModelError) as error:
        load(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_hub_that_does_not_answer_fails_at_once_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dead:
        def head(self, url: str, timeout: float) -> None:
            raise OSError("no route")

    monkeypatch.setattr(hub, "get_session", Dead)
    with pytest.raises(ModelError, match=r"'nobody/no-model-of-this-name' .*the Hub is unreachable"):
        load("nobody/no-model-of-this-name")


def test_an_attention_function_that_is_not_registered_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no_such_attention"):
        load(save(tmp_path), attn_implementation="no_such_attention")


def test_end_tokens_are_gathered_from_generation_configuration_and_template(tmp_path: Path) -> None:
    class Tokenizer:
        eos_token_id = 7
        chat_template = "{{ '<|im_end|>' }}"

        def get_vocab(self) -> dict[str, int]:
            return {"<|im_end|>": 9}

    loaded = load(save(tmp_path, eos_token_id=2))
    assert eos_token_ids(loaded.model, Tokenizer()) == {2, 7, 9}
    path = tmp_path / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [4, 5]}))
    assert load(tmp_path).eos_token_ids == {4, 5}


def test_context_ends_where_rope_frequencies_would_change() -> None:
    plain = transformers.LlamaConfig(**SIZES)
    assert max_context(plain, "m") == 128
    scaled = {
        "rope_type": "dynamic",
        "rope_theta": 1e4,
        "factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    assert max_context(transformers.LlamaConfig(**SIZES, rope_parameters=scaled), "m") == 64
    fixed = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}
    assert max_context(transformers.LlamaConfig(**SIZES, rope_parameters=fixed), "m") == 128
    assert max_context(transformers.GPT2Config(n_positions=77), "m") == 77


def test_a_configuration_without_length_is_refused() -> None:
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(hidden_size=32))
    with pytest.raises(ModelError, match="how long"):
        max_context(config, "m")


def test_unknown_devices_and_dtypes_are_refused() -> None:
    with pytest.raises(ModelError, match="'abacus'"):
        choose_device("abacus")
    with pytest.raises(ModelError, match="'float7'"):
        choose_dtype("float7", torch.device("cpu"), transformers.LlamaConfig())
    with pytest.raises(ModelError, match="cuda:63"):
        choose_device("cuda:63")


def test_auto_dtype_on_a_gpu_is_the_checkpoints_half_precision() -> None:
    config = transformers.LlamaConfig()
    gpu = torch.device("cuda", 0)
    assert choose_dtype("auto", gpu, config) == torch.bfloat16
    config.dtype = torch.float16
    assert choose_dtype("auto", gpu, config) == torch.float16


@pytest.mark.parametrize(
    ("units", "rule", "width", "expected"),
    [
        (True, True, 512, torch.bfloat16),
        (False, True, 512, torch.float32),
        (True, False, 512, torch.float32),
        (True, True, 128, torch.float32),
    ],
)
def test_auto_dtype_on_a_cpu_is_bfloat16_where_it_has_units_and_rows_keep_their_bits(
    monkeypatch: pytest.MonkeyPatch, units: bool, rule: bool, width: int, expected: torch.dtype
) -> None:
    monkeypatch.setattr(dtypes, "has_bfloat16_units", lambda: units)
    found = RowRule(1, (64,)) if rule else None
    monkeypatch.setattr(dtypes, "product_rule", lambda *shape, packed: found)
    config = transformers.LlamaConfig(hidden_size=width)
    assert choose_dtype("auto", torch.device("cpu"), config) == expected


def test_auto_dtype_does_not_depend_on_how_fast_products_happen_to_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("time.perf_counter", lambda: pytest.fail("a stopwatch was asked"))
    chosen = choose_dtype("auto", torch.device("cpu"), transformers.LlamaConfig(hidden_size=512))
    assert chosen in (torch.float32, torch.bfloat16)
