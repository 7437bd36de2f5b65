"""A GGUF file becomes a model folder with the same weights, tokenizer and answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from radixcache.errors import ModelError
from radixcache.models.convert import convert_gguf
from radixcache.models.gguf import read_gguf
from radixcache.models.gguf_folders import gguf_folder
from radixcache.models.load import load_model
from tests.models.test_tokenizer import CHATML, MERGES, SPECIALS, TOKENS

HEADS, KV_HEADS, WIDTH = 4, 2, 64


def tiny_llama() -> Any:
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=WIDTH,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=256,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config).eval()


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """The row order of attn_q and attn_k in llama-architecture files: rotary pairs side by side."""
    rows = weight.shape[0]
    return weight.reshape(heads, 2, rows // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_name(name: str) -> str:
    stem = name.removesuffix(".weight")
    if stem in TOP:
        return f"{TOP[stem]}.weight"
    layer, part = stem.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{NAMES[part]}.weight"


def write_gguf(path: Path, model: Any, **changes: Any) -> Path:
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(changes.get("pre", "smollm"))
    writer.add_token_list(TOKENS)
    writer.add_token_merges(MERGES)
    writer.add_token_types([3] * len(SPECIALS) + [1] * (len(TOKENS) - len(SPECIALS)))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(CHATML)
    if "eot" in changes:
        writer.add_eot_token_id(changes["eot"])
    if "shards" in changes:
        writer.add_uint16("split.count", changes["shards"])
    for name, weight in model.state_dict().items():
        array = weight.numpy()
        if "q_proj" in name or "k_proj" in name:
            array = interleaved(array, HEADS if "q_proj" in name else KV_HEADS)
        if gguf_name(name) not in changes.get("without", ()):
            writer.add_tensor(gguf_name(name), np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("gguf")
    model = tiny_llama()
    source = write_gguf(folder / "tiny.gguf", model, eot=0)
    (folder / "out").mkdir()
    convert_gguf(source, folder / "out")
    return model, folder / "out"


def test_weights_are_bit_identical_with_query_and_key_rows_put_back(converted: tuple[Any, Path]) -> None:
    model, folder = converted
    stored = load_file(folder / "model.safetensors")
    wanted = model.state_dict()
    assert stored.keys() == wanted.keys()
    assert all(stored[name].dtype == torch.float32 for name in stored)
    assert [name for name in wanted if not torch.equal(stored[name], wanted[name])] == []
    query = wanted["model.layers.0.self_attn.q_proj.weight"].numpy()
    assert not np.array_equal(interleaved(query, HEADS), query)


def test_converted_folder_loads_and_computes_the_same_logits(converted: tuple[Any, Path]) -> None:
    model, folder = converted
    loaded = load_model(str(folder), device="cpu", dtype="float32", attn_implementation="eager")
    ids = torch.tensor([loaded.tokenizer.encode("the 123")])
    with torch.inference_mode():
        assert torch.allclose(loaded.model(ids).logits, model(ids).logits, atol=1e-5)
    assert loaded.max_context == 256


def test_converted_tokenizer_keeps_pre_tokenizer_and_template_on_disk(converted: tuple[Any, Path]) -> None:
    loaded = load_model(str(converted[1]), device="cpu", dtype="float32", attn_implementation="eager")
    assert loaded.tokenizer.encode("123") == [TOKENS.index(digit) for digit in "123"]
    assert loaded.tokenizer.chat_template == CHATML
    assert loaded.tokenizer.eos_token == SPECIALS[2]


def test_end_of_turn_token_ends_a_generation_too(converted: tuple[Any, Path]) -> None:
    loaded = load_model(str(converted[1]), device="cpu", dtype="float32", attn_implementation="eager")
    assert loaded.eos_token_ids == {0, 2}


def test_gguf_file_is_converted_once_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RADIXCACHE_HOME", str(tmp_path / "home"))
    source = write_gguf(tmp_path / "tiny.gguf", tiny_llama())
    lines: list[str] = []
    first = gguf_folder(source, lines.append)
    assert gguf_folder(source, lines.append) == first
    assert lines == ["converting tiny.gguf, once"]
    loaded = load_model(str(source), device="cpu", dtype="float32", attn_implementation="eager")
    assert loaded.name == str(source)
    write_gguf(source, tiny_llama(), eot=0)
    assert gguf_folder(source, lines.append) != first
    assert capfd.readouterr().err == ""


def test_metadata_counts_parameters(tmp_path: Path) -> None:
    model = tiny_llama()
    metadata, parameters = read_gguf(write_gguf(tmp_path / "tiny.gguf", model))
    assert metadata["tokenizer.ggml.tokens"] == TOKENS
    assert parameters == sum(weight.numel() for weight in model.state_dict().values())


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    with pytest.raises(ModelError, match=r"notes\.txt: is not a GGUF file"):
        read_gguf(path)


def test_truncated_file_is_refused(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "tiny.gguf", tiny_llama()).read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole[:2000])
    with pytest.raises(ModelError, match=r"cut\.gguf: cannot be read as GGUF"):
        read_gguf(path)


@pytest.mark.parametrize(
    ("changes", "message"), [({"shards": 3}, "one of 3 shards"), ({"pre": "martian"}, "'martian'")]
)
def test_unsupported_file_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    monkeypatch.setenv("RADIXCACHE_HOME", str(tmp_path / "home"))
    source = write_gguf(tmp_path / "tiny.gguf", tiny_llama(), **changes)
    with pytest.raises(ModelError, match=message):
        load_model(str(source), device="cpu")
    assert [path for path in (tmp_path / "home" / "models").iterdir() if path.is_dir()] == []


EVERY_TENSOR = [gguf_name(name) for name in tiny_llama().state_dict()]


@pytest.mark.parametrize(
    ("without", "message"),
    [
        (["blk.1.ffn_up.weight"], r"lacks 1 weights: model\.layers\.1\.mlp\.up_proj\.weight$"),
        (["token_embd.weight"], r"lacks 1 weights: model\.embed_tokens\.weight$"),
        (
            [name for name in EVERY_TENSOR if name.startswith("blk.0.")],
            r"lacks 9 weights: .*layers\.0\..*, \.\.\.$",
        ),
        (EVERY_TENSOR, "lacks 21 weights"),
    ],
    ids=["one", "embeddings", "layer", "vocabulary only"],
)
def test_a_file_that_lacks_tensors_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without: list[str], message: str
) -> None:
    monkeypatch.setenv("RADIXCACHE_HOME", str(tmp_path / "home"))
    source = write_gguf(tmp_path / "tiny.gguf", tiny_llama(), without=without)
    with pytest.raises(ModelError, match=message) as error:
        load_model(str(source), device="cpu")
    assert str(source) in str(error.value)
    assert "\n" not in str(error.value)
    assert [path for path in (tmp_path / "home" / "models").iterdir() if path.is_dir()] == []


def test_a_head_that_is_tied_to_the_embeddings_is_not_missing(tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "tiny.gguf", tiny_llama(), without=["output.weight"])
    (tmp_path / "out").mkdir()
    convert_gguf(source, tmp_path / "out")
    loaded = load_model(str(tmp_path / "out"), device="cpu", dtype="float32")
    assert torch.equal(loaded.model.lm_head.weight, loaded.model.model.embed_tokens.weight)
