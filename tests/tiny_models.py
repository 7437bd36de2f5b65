"""Tiny random models of every attention kind, as the engine and as transformers run them."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import transformers

from radixcache.models import LoadedModel

VOCABULARY = 128
CONTEXT = 2048

_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
    # Wide weights make logits differ enough for greedy choices to be clear.
    "initializer_range": 0.15,
}


def _config(name: str) -> Any:
    match name:
        case "llama":
            return transformers.LlamaConfig(**_SHAPE)
        case "mistral-window":
            return transformers.MistralConfig(**_SHAPE, sliding_window=100)
        case "qwen3":
            return transformers.Qwen3Config(**_SHAPE)
        case "gemma2-softcap":
            return transformers.Gemma2Config(**_SHAPE, sliding_window=64, query_pre_attn_scalar=16)
        case "gpt2-mha":
            return transformers.GPT2Config(
                vocab_size=VOCABULARY,
                n_embd=48,
                n_layer=3,
                n_head=4,
                n_positions=CONTEXT,
                bos_token_id=1,
                eos_token_id=2,
                initializer_range=0.15,
            )
        case "gemma-mqa":
            return transformers.GemmaConfig(**(_SHAPE | {"num_key_value_heads": 1}))
        case "gpt-oss-sinks":
            return transformers.GptOssConfig(
                **_SHAPE, num_local_experts=4, num_experts_per_tok=2, sliding_window=64
            )
        case "stablelm":
            shape = {key: value for key, value in _SHAPE.items() if key != "head_dim"}
            return transformers.StableLmConfig(**(shape | {"hidden_size": 96}))
    raise ValueError(name)


NAMES = (
    "llama",
    "mistral-window",
    "qwen3",
    "gemma2-softcap",
    "gpt2-mha",
    "gemma-mqa",
    "gpt-oss-sinks",
    "stablelm",
)


@cache
def _weights(name: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(_config(name), attn_implementation="eager")
    for key, parameter in model.named_parameters():
        if key.endswith("sinks"):
            torch.nn.init.normal_(parameter)
    return model.state_dict()


def reference(name: str) -> Any:
    """The model as transformers runs it, in float32."""
    return _build(name)


@cache
def tiny(name: str, device: str = "cpu") -> LoadedModel:
    """The same weights, ready for the engine."""
    return LoadedModel(
        model=_build(name).to(device),
        tokenizer=None,
        name=name,
        fingerprint=name,
        eos_token_ids=frozenset({2}),
        max_context=CONTEXT,
        device=torch.device(device),
        dtype=torch.float32,
    )


def _build(name: str) -> Any:
    model = transformers.AutoModelForCausalLM.from_config(_config(name), attn_implementation="eager")
    model.load_state_dict(_weights(name))
    return model.eval()
