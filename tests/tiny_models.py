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
        case "qwen2-moe":
            return transformers.Qwen2MoeConfig(
                **(_SHAPE | {"num_key_value_heads": 6}),
                num_experts=4,
                num_experts_per_tok=2,
                moe_intermediate_size=72,
                shared_expert_intermediate_size=40,
            )
        case "glm4-moe":
            return transformers.Glm4MoeConfig(
                **_SHAPE, n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=72
            )
        case "dots1":
            return transformers.Dots1Config(
                **_SHAPE,
                n_routed_experts=4,
                n_shared_experts=1,
                num_experts_per_tok=2,
                moe_intermediate_size=72,
                n_group=1,
                topk_group=1,
                first_k_dense_replace=1,
            )
        case "minimax-m2":
            return transformers.MiniMaxM2Config(**_SHAPE, num_local_experts=4, num_experts_per_tok=2)
        case "modernbert-decoder":
            shape = {
                key: value for key, value in _SHAPE.items() if key not in ("head_dim", "num_key_value_heads")
            }
            return transformers.ModernBertDecoderConfig(
                **shape, sliding_window=64, cls_token_id=1, sep_token_id=2
            )
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

# Experts, routers and gates that are functions, not modules, and activations of other kinds.
GATED = ("qwen2-moe", "glm4-moe", "dots1", "minimax-m2", "modernbert-decoder")


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
def tiny(name: str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> LoadedModel:
    """The same weights, ready for the engine."""
    return LoadedModel(
        model=_build(name).to(device, dtype),
        tokenizer=None,
        name=name,
        fingerprint=name,
        eos_token_ids=frozenset({2}),
        max_context=CONTEXT,
        device=torch.device(device),
        dtype=dtype,
    )


def _build(name: str) -> Any:
    model = transformers.AutoModelForCausalLM.from_config(_config(name), attn_implementation="eager")
    model.load_state_dict(_weights(name))
    return model.eval()
