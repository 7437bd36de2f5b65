"""Bytes a token, weights and what fits, against published figures of well-known models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from radixcache.errors import ModelError
from radixcache.models.configs import ConfigFile, read_config
from radixcache.plan.plan import plan, plan_for_log
from radixcache.plan.shape import ModelShape, dtype_bits, shape_of
from radixcache.sizes import parse_bytes, parse_context
from radixcache.workload.settings import SimulateSettings
from radixcache.workload.workload import Workload
from tests.simulate.plain_lru import call

LLAMA_2_7B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32000,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "max_position_embeddings": 4096,
}
LLAMA_3_70B = {
    "model_type": "llama",
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "max_position_embeddings": 8192,
}
QWEN2_0_5B = {
    "model_type": "qwen2",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "sliding_window": 32768,
    "use_sliding_window": False,
    "max_window_layers": 24,
}
MIXTRAL_8X7B = {
    "model_type": "mixtral",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_local_experts": 8,
    "vocab_size": 32000,
    "torch_dtype": "bfloat16",
    "sliding_window": None,
}
DEEPSEEK_V3 = {
    "model_type": "deepseek_v3",
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "hidden_size": 7168,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "torch_dtype": "bfloat16",
}
MIB, GIB = 2**20, 2**30


def shape(fields: dict[str, Any], weights: int | None = None) -> ModelShape:
    return shape_of("model", ConfigFile(Path("config.json"), fields, weights))


@pytest.mark.parametrize(
    ("fields", "bits", "per_token"),
    [
        (LLAMA_2_7B, 16, MIB // 2),
        (LLAMA_2_7B, 8, MIB // 4),
        (LLAMA_3_70B, 16, 327_680),
        (QWEN2_0_5B, 16, 12_288),
        (MIXTRAL_8X7B, 16, 131_072),
        (DEEPSEEK_V3, 16, 70_272),
        ({"n_layer": 12, "n_head": 12, "n_embd": 768}, 16, 36_864),  # GPT-2
        ({"n_layer": 40, "n_head": 48, "n_embd": 6144, "multi_query": True}, 16, 20_480),  # StarCoder
    ],
)
def test_bytes_a_token(fields: dict[str, Any], bits: int, per_token: int) -> None:
    assert shape(fields).bytes_per_token(bits) == per_token


def test_llama_3_70b_takes_ten_gibibytes_at_32k() -> None:
    found = plan(shape(LLAMA_3_70B), gpu_memory=640 * 10**9, context=32 * 1024)
    assert found.sequence_memory == 10 * GIB
    every_head = shape({**LLAMA_3_70B, "num_key_value_heads": 64})
    assert plan(every_head, gpu_memory=1, context=32 * 1024).sequence_memory == 80 * GIB


@pytest.mark.parametrize(
    ("fields", "parameters"),
    [
        (LLAMA_2_7B, 6_738_415_616),
        (LLAMA_3_70B, 70_553_706_496),
        (QWEN2_0_5B, 494_032_768),
        (MIXTRAL_8X7B, 46_702_792_704),
    ],
)
def test_weights_are_estimated_to_the_parameter(fields: dict[str, Any], parameters: int) -> None:
    found = shape(fields)
    assert (found.weights_bytes, found.weights_from) == (2 * parameters, "estimate")


def test_weights_that_cannot_be_known_are_not_made_up() -> None:
    assert shape(DEEPSEEK_V3).weights_bytes is None
    assert shape({**LLAMA_2_7B, "quantization_config": {"bits": 4}}).weights_from is None
    assert shape(LLAMA_2_7B, weights=123).weights_from == "files"


def test_what_fits() -> None:
    found = plan(shape(LLAMA_2_7B), gpu_memory=80 * 10**9, context=4096, dtype="fp8")
    assert found.cache_memory == 80 * 10**9 - 2 * 6_738_415_616
    assert found.tokens == found.cache_memory // (MIB // 4) == 253_765
    assert found.sequences == 253_765 // 4096 == 61
    assert found.dtype == "fp8"
    given = plan(shape(LLAMA_2_7B), gpu_memory=80 * 10**9, context=4096, weights=0)
    assert (given.cache_memory, given.weights_from) == (80 * 10**9, "given")


def test_weights_larger_than_the_memory_leave_no_room() -> None:
    found = plan(shape(LLAMA_3_70B), gpu_memory=80 * 10**9, context=8192)
    assert (found.cache_memory, found.tokens, found.sequences) == (0, 0, 0)


def test_a_log_in_the_room_of_a_plan() -> None:
    calls = [call([group, *range(31)]) for _ in range(2) for group in range(3)]
    bare = shape({"num_hidden_layers": 1, "num_attention_heads": 1, "hidden_size": 1, "torch_dtype": "fp32"})
    for tokens, hits in ((48, 0), (96, 6), (1000, 6)):
        room = plan(bare, gpu_memory=tokens * 8, context=10)
        assert room.tokens == tokens
        found = plan_for_log(Workload(1, calls), SimulateSettings(), room, logs=["log"])
        assert found.cached_tokens_whole_blocks == hits * 16
        assert (found.capacity_blocks, found.prompt_tokens) == (tokens // 16, 192)
        assert (found.saturation_blocks, found.saturation_bytes) == (6, 6 * 16 * 8)
        assert found.unbounded_hit_rate == 0.5


@pytest.mark.parametrize(
    ("fields", "sliding"),
    [
        ({"sliding_window": 512, "layer_types": ["sliding_attention"] * 3 + ["full_attention"]}, 3),
        ({"sliding_window": 512, "sliding_window_pattern": 4}, 3),
        ({"sliding_window": 512}, 4),
        ({"sliding_window": 512, "use_sliding_window": True, "max_window_layers": 1}, 3),
        ({"sliding_window": 512, "use_sliding_window": False}, 0),
        ({"layer_types": ["full_attention"] * 4}, 0),
    ],
)
def test_sliding_layers(fields: dict[str, Any], sliding: int) -> None:
    base = {"num_hidden_layers": 4, "num_attention_heads": 2, "head_dim": 8, "num_key_value_heads": 1}
    found = shape({**base, **fields})
    assert found.sliding_layers == sliding
    per_layer = 2 * 8 * 2
    assert found.bytes_per_token(16) == 4 * per_layer
    assert found.windowed_bytes(2048, 16) == per_layer * (sliding * 512 + (4 - sliding) * 2048)


FOUR = {
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "hidden_size": 64,
    "sliding_window": 24,
    "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
}
NARROW = 2 * 2 * 16


@pytest.mark.parametrize(
    ("fields", "sliding", "full"),
    [
        ({}, 3 * NARROW, NARROW),
        ({"model_type": "gemma4_text", "global_head_dim": 32}, 3 * NARROW, 2 * NARROW),
        ({"model_type": "gemma4_text"}, 3 * NARROW, 32 * NARROW),
        ({"global_head_dim": 32, "num_global_key_value_heads": 1}, 3 * NARROW, 2 * NARROW),
        (
            {"global_head_dim": 32, "num_global_key_value_heads": 1, "attention_k_eq_v": True},
            3 * NARROW,
            NARROW,
        ),
        (
            {"model_type": "gemma4_text", "per_layer_config": {"3": {"head_dim": 512}}},
            3 * NARROW,
            32 * NARROW,
        ),
        ({"num_kv_shared_layers": 2}, 2 * NARROW, 0),
        ({"num_kv_shared_layers": 0}, 3 * NARROW, NARROW),
        ({"swa_num_key_value_heads": 4, "swa_head_dim": 8}, 3 * NARROW, NARROW),
        ({"v_head_dim": 8}, 3 * NARROW * 3 // 4, NARROW * 3 // 4),
    ],
)
def test_layers_that_differ_are_summed_one_by_one(fields: dict[str, Any], sliding: int, full: int) -> None:
    found = shape(FOUR | fields)
    assert found.bytes_per_token(16) == 2 * (sliding + full)
    assert found.windowed_bytes(1000, 16) == 2 * (sliding * 24 + full * 1000)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_key_value_heads": [2, 2, 1, 1]}, r"num_key_value_heads must be .*, got \[2, 2, 1, 1\]"),
        ({"layer_types": ["full_attention"]}, "layer_types names 1 layers, but there are 4"),
        ({"num_kv_shared_layers": 4}, "num_kv_shared_layers is 4, but there are 4 layers"),
        ({"num_kv_shared_layers": "two"}, "num_kv_shared_layers must be .*, got 'two'"),
        (
            {"per_layer_config": {"1": {"head_dim": "wide"}}},
            "head_dim of layer 1 must be .*, got 'wide'",
        ),
    ],
)
def test_layers_that_are_not_understood_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=f"config.json: .*{message}"):
        shape(FOUR | fields)


def test_the_text_part_of_a_composite_model_counts() -> None:
    assert shape({"num_hidden_layers": 2, "text_config": LLAMA_2_7B}).bytes_per_token(16) == MIB // 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_attention_heads": 4, "hidden_size": 64}, "num_hidden_layers is missing"),
        ({"num_hidden_layers": 2, "num_attention_heads": 4}, "hidden_size is missing"),
        ({"num_hidden_layers": "two"}, "num_hidden_layers must be .*, got 'two'"),
        ({"num_hidden_layers": True}, "num_hidden_layers must be .*, got True"),
        ({"num_hidden_layers": 2, "kv_lora_rank": 512}, "qk_rope_head_dim is missing"),
        ({"num_hidden_layers": 1, "layer_types": ["linear_attention"]}, "layers of type linear_attention"),
        ({"is_encoder_decoder": True}, "encoder-decoder"),
    ],
)
def test_configurations_without_an_answer_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=f"config.json: .*{message}"):
        shape(fields)


def test_a_configuration_is_found_by_path_and_folder(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(LLAMA_2_7B))
    assert read_config(str(file)).fields == read_config(str(tmp_path)).fields == LLAMA_2_7B
    assert read_config(str(file)).weights_bytes is None
    (tmp_path / "model-1.safetensors").write_bytes(b"12345")
    (tmp_path / "model-2.safetensors").write_bytes(b"123")
    assert read_config(str(tmp_path)).weights_bytes == 8


@pytest.mark.parametrize(
    ("content", "message"), [("{", "is no JSON"), ("[1]", "holds no JSON object"), (None, "cannot be read")]
)
def test_what_is_no_configuration_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "config.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ModelError, match=f"config.json: {message}"):
        read_config(str(file))


def test_amounts() -> None:
    assert parse_bytes("m", "80GB") == 80 * 10**9
    assert parse_bytes("m", "74.5 GiB") == round(74.5 * GIB)
    assert parse_bytes("m", "1048576") == MIB
    assert (parse_context("c", "32k"), parse_context("c", "1M"), parse_context("c", "8,192")) == (
        32_768,
        MIB,
        8192,
    )
    for text in ("", "GB", "eighty", "-1GB", "80GBB"):
        with pytest.raises(ValueError, match="--gpu-memory must be"):
            parse_bytes("--gpu-memory", text)
    for text in ("0", "32g", "x"):
        with pytest.raises(ValueError, match="--context must be"):
            parse_context("--context", text)
    with pytest.raises(ValueError, match=r"dtype must be one of float32, .*, got 'fp7'"):
        dtype_bits("fp7")
    assert dtype_bits("float8_e4m3fn") == 8
