"""Tiny random models of every causal type that transformers has, made from the defaults of its configuration.

A default configuration describes a model of billions of parameters. Each number in it that has a name of
`SIZES` is replaced by a small one, in the parts of a composite configuration too; what a type derives from
its numbers (layer types, head widths) it derives from the small ones.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

__all__ = ["CONTEXT", "VOCABULARY", "causal_types", "tiny_config", "tiny_model"]

VOCABULARY, CONTEXT = 128, 1024
_WIDTH, _HEADS, _LAYERS, _WINDOW = 64, 4, 4, 24
_PARAMETERS_LIMIT = 60_000_000

SIZES: dict[str, Any] = {
    **dict.fromkeys(
        ("vocab_size", "decoder_vocab_size", "vocab_size_per_layer_input", "unpadded_vocab_size"), VOCABULARY
    ),
    **dict.fromkeys(
        ("hidden_size", "d_model", "n_embd", "word_embed_proj_dim", "embedding_size", "emb_dim", "lru_width"),
        _WIDTH,
    ),
    **dict.fromkeys(("attention_hidden_size", "embedding_dim", "input_embedding_size"), _WIDTH),
    **dict.fromkeys(("output_embedding_size", "backbone_hidden_size", "cross_hidden_size"), _WIDTH),
    **dict.fromkeys(
        ("intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim", "ffn_hidden_size", "dff"), 96
    ),
    **dict.fromkeys(("dim_ff", "dense_intermediate_size", "intermediate_size_mlp", "d_inner"), 96),
    **dict.fromkeys(
        ("moe_intermediate_size", "shared_expert_intermediate_size", "shared_intermediate_size"), 48
    ),
    **dict.fromkeys(("moe_shared_expert_intermediate_size", "shared_experts_intermediate_size"), 48),
    **dict.fromkeys(("expert_ffn_hidden_size", "feed_forward_size", "router_hidden_size"), 48),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_blocks"), _LAYERS),
    **dict.fromkeys(("encoder_layers", "decoder_layers", "num_encoder_layers", "num_decoder_layers"), 2),
    "num_layers_per_stack": 2,
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads"), _HEADS),
    **dict.fromkeys(
        ("encoder_attention_heads", "decoder_attention_heads", "swa_num_attention_heads"), _HEADS
    ),
    **dict.fromkeys(("num_encoder_attention_heads", "num_decoder_attention_heads"), _HEADS),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads", "kv_n_heads"), 2),
    **dict.fromkeys(("head_dim", "kv_channels", "dim_head", "swa_head_dim", "attention_head_size"), 16),
    **dict.fromkeys(("v_head_dim", "qk_nope_head_dim", "index_head_dim", "d_head", "linear_head_dim"), 16),
    **dict.fromkeys(("attention_head_dim", "global_head_dim"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "rotary_dim"), 8),
    "qk_head_dim": 24,
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank", "gated_norm_rank", "o_lora_rank", "laurel_rank"), 24),
    "adapter_rank": 8,
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "moe_top_k"), 2),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"), 1),
    **dict.fromkeys(("n_group", "topk_group", "num_expert_group", "first_k_dense_replace"), 1),
    **dict.fromkeys(("num_dense_layers", "index_n_heads", "zero_expert_num"), 2),
    "index_topk": 16,
    **dict.fromkeys(
        ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_target_positions"),
        CONTEXT,
    ),
    **dict.fromkeys(("model_max_length", "context_length"), CONTEXT),
    **dict.fromkeys(("sliding_window", "sliding_window_size", "window_size", "local_attention"), _WINDOW),
    "attention_window_size": _WINDOW,
    "max_window_layers": 2,
    "query_pre_attn_scalar": 16,
    "hidden_size_per_layer_input": 8,
    **dict.fromkeys(("linear_num_key_heads", "linear_num_heads", "mamba_n_groups", "mamba_ngroups"), 2),
    "n_groups": 2,
    "linear_num_value_heads": 4,
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 16),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "n_mamba_heads"), 8),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "mamba_headdim", "mamba_d_state", "state_size"), 16),
    "ssm_state_size": 16,
    **dict.fromkeys(("mamba_chunk_size", "chunk_size"), 16),
    # Wide weights let what attention adds, and a token's place, weigh something in the logits.
    **dict.fromkeys(("initializer_range", "init_std", "init_method_std"), 0.15),
    **dict.fromkeys(("dropout", "attention_dropout", "hidden_dropout", "activation_dropout"), 0.0),
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
"""Sizes by the names that configurations give them."""

_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
# What some types need besides, or instead.
_OF_TYPE: dict[str, dict[str, Any]] = {
    "blt": {"hidden_size_global": _WIDTH, "encoder_hash_byte_group_vocab": 64, "num_layers": 2},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "rope_parameters": {"sliding_attention": _ROPE, "full_attention": _ROPE},
    },
    "dbrx": {"rope_theta": 10_000.0, "clip_qkv": 8.0},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "dots3_note": {"num_key_value_heads": _HEADS},
    "dots3_note_text": {"num_key_value_heads": _HEADS},
    "falcon_h1": {"mamba_d_ssm": 128},
    "gemma3n_text": {
        "num_kv_shared_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "activation_sparsity_pattern": [0.0] * _LAYERS,
    },
    "gemma4_assistant": {"hidden_size_per_layer_input": 0},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"num_heads": 8},
    "ministral": {"head_dim": 16},
    "nemotron": {"head_dim": 16, "num_key_value_heads": 2},
    "qwen4_exp_text": {"indexer_head_dim": 16, "indexer_num_heads": 2},
    "reformer": {"is_decoder": True},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "zamba2": {"layers_block_type": ["mamba", "hybrid"] * 2, "num_mem_blocks": 1},
    "zaya": {"num_experts_per_tok": 1},
}
_LATENT = "kv_lora_rank"


def causal_types() -> list[str]:
    """Names of all types that transformers has a causal language model for."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def tiny_config(kind: str, **changes: Any) -> Any:
    """A small configuration of a type; `changes` go into the part that describes the text.

    Raises:
        Exception: of many kinds, where the type does not take these sizes.
    """
    cls: Any = CONFIG_MAPPING[kind]
    return _shrink(cls, _OF_TYPE.get(kind, {}) | changes)


def _shrink(cls: Any, changes: dict[str, Any]) -> Any:
    stated = cls().to_dict()
    parts = {name: value for name, value in stated.items() if name in cls.sub_configs and value is not None}
    own: dict[str, Any] = {}
    for name, value in stated.items():
        if name in SIZES and value is not None and not isinstance(value, bool | list | dict):
            own[name] = SIZES[name]
    if _LATENT in own:
        own |= {"num_key_value_heads": _HEADS} | ({"head_dim": 8} if "head_dim" in own else {})
    for name, value in parts.items():
        part = cls.sub_configs[name]
        if not hasattr(part, "to_dict"):  # AutoConfig
            part = CONFIG_MAPPING[value["model_type"]]
        text = name in ("text_config", "decoder", "decoder_config", "attn_config")
        own[name] = _shrink(part, changes if text else {}).to_dict()
    if not any(name in parts for name in ("text_config", "decoder")):
        own |= changes
    return cls(**own)


def tiny_model(config: Any, seed: int = 0, dtype: torch.dtype = torch.float32) -> Any:
    """A model with random weights, in evaluation mode, with transformers' eager attention.

    Raises:
        MemoryError: the configuration describes a large model after all.
    """
    build: Any = transformers.AutoModelForCausalLM.from_config
    with torch.device("meta"):
        large = sum(weight.numel() for weight in build(copy.deepcopy(config)).parameters())
    if large > _PARAMETERS_LIMIT:
        raise MemoryError(f"{large / 1e6:.0f} million parameters are not a tiny model")
    torch.manual_seed(seed)
    model: Any = build(copy.deepcopy(config), attn_implementation="eager", dtype=dtype)
    for name, weight in model.named_parameters():
        if name.endswith("sinks"):
            torch.nn.init.normal_(weight)
    return model.eval()
