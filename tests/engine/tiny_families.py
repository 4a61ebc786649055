"""A tiny random model of every class that transformers can build from a config for causal language modelling.

One shrinker for all: what a config's field is called says how small it becomes. What a family needs beside that stands
in SPECIAL.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests.engine.families import VOCABULARY

_SMALL: dict[int, str] = {
    1: "n_group topk_group num_nextn_predict_layers first_k_dense_replace num_key_value_heads_global mamba_n_groups "
    "n_shared_experts num_shared_experts num_mem_blocks mtp_num_hidden_layers mtp_num_layers num_mtp_layers",
    2: "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_key_value_heads n_head_kv "
    "num_kv_heads num_experts_per_tok num_experts_per_token moe_topk moe_k moe_top_k top_k_experts num_decoder_layers "
    "num_blocks depth num_block n_layer_encoder mamba_ngroups n_groups top_k moe_num_shared_experts "
    "kv_heads num_global_key_value_heads linear_num_key_heads swa_num_key_value_heads encoder_num_layers",
    4: "num_attention_heads n_head n_heads num_heads encoder_attention_heads decoder_attention_heads num_experts "
    "num_local_experts n_routed_experts moe_num_experts linear_num_value_heads mamba_n_heads mamba_num_heads "
    "num_encoder_attention_heads num_decoder_attention_heads n_mamba_heads swa_num_attention_heads num_mamba_heads "
    "linear_num_heads index_n_heads",
    8: "qk_rope_head_dim rotary_dim mamba_chunk_size chunk_size mamba_dt_rank time_step_rank conv_L_cache",
    16: "head_dim d_kv v_head_dim mamba_d_state state_size ssm_state_size global_head_dim qk_nope_head_dim kv_channels "
    "linear_key_head_dim linear_value_head_dim attention_head_dim head_size swa_head_dim swa_v_head_dim index_head_dim "
    "attn_head_size",
    32: "q_lora_rank kv_lora_rank mamba_head_dim mamba_headdim mamba_d_head hidden_size_per_layer_input o_lora_rank "
    "lora_rank index_topk",
    64: "hidden_size n_embd d_model dim n_embed embedding_size moe_intermediate_size shared_expert_intermediate_size "
    "moe_shared_expert_intermediate_size word_embed_proj_dim expert_ffn_hidden_size lru_width d_embed "
    "attention_hidden_size embedding_dim moe_latent_size block_dim emb_dim out_hidden_size input_feat_size "
    "num_positions vision_feature_size gate_proj_dim mm_embed_dim output_proj_dims "
    "adapter_in_dim adapter_input_size adapter_out_dim",
    128: "intermediate_size ffn_dim n_inner d_ff encoder_ffn_dim decoder_ffn_dim ffn_hidden_size dff mamba_d_ssm "
    "moe_shared_expert_size shared_intermediate_size mlp_intermediate_size dense_intermediate_size feed_forward_size "
    "intermediate_size_mlp mamba_intermediate_size num_global_features",
    256: "max_position_embeddings n_positions n_ctx max_sequence_length sliding_window seq_length max_seq_len",
    VOCABULARY: "vocab_size decoder_vocab_size src_vocab_size tgt_vocab_size vocab_size_per_layer_input",
}
_SIZES = {name: size for size, names in _SMALL.items() for name in names.split()}
_IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
LARGEST = 30_000_000  # parameters: beyond this the shrinker has missed something

_FULL = "full_attention"

_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_TWO_KINDS = ["linear_attention", _FULL]
SPECIAL: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "blt": {"encoder_hash_byte_group_vocab": 64},
    "cohere_compass_text": {"rope_parameters": {_FULL: {**_ROPE, "mrope_section": [4, 2, 2]}}},
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "kv_n_heads": 2, "clip_qkv": 8.0}},
    "deepseek_v2": {"num_experts_per_tok": 2, "first_k_dense_replace": 1},
    "deepseek_v4": {"mlp_layer_types": ["hash_moe", "moe"]},
    "dots3_note": {
        "vision_config": {"num_hidden_layers": 42, "adapter_in_dim": 64}
    },  # as some of them are told apart by number
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1},
    "dots3_note_text": {"num_key_value_heads": 4},
    "gemma3n_text": {"num_kv_shared_layers": 0, "altup_num_inputs": 2, "laurel_rank": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "intermediate_size": 128},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16, "num_experts": 4, "moe_topk": 2},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1},
    "lfm2": {"layer_types": ["conv", _FULL]},
    "lfm2_moe": {"layer_types": ["conv", _FULL], "num_dense_layers": 1},
    "mamba2": {"num_heads": 8, "head_dim": 16},
    "ministral": {"head_dim": 16},
    "moshi": {"audio_vocab_size": VOCABULARY},
    "nemotron": {"num_key_value_heads": 2, "head_dim": 16},
    "olmo_hybrid": {"layer_types": _TWO_KINDS},
    "qwen3_moe": {"norm_topk_prob": True},  # as all of the family are, but for its default
    "qwen3_5_text": {"layer_types": _TWO_KINDS},
    "qwen3_5_moe_text": {"layer_types": _TWO_KINDS},
    "qwen3_next": {"layer_types": _TWO_KINDS},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "reformer": {"axial_pos_embds": False, "attn_layers": ["local", "lsh"]},
    "zamba": {
        "num_hidden_layers": 4,
        "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
    },
    "zamba2": {"layers_block_type": ["mamba", "hybrid"]},
}

NO_TEXT = {
    "gemma3n": "its vision tower needs timm and Pillow, which are not installed; its text part is gemma3n_text",
    "gemma4_assistant": "no language model by itself: it drafts for a Gemma 4, whose hidden states it reads",
    "gemma4_unified_assistant": "no language model by itself: it drafts for a Gemma 4, whose hidden states it reads",
    "musicgen": "writes codes of music, not text",
    "musicgen_melody": "writes codes of music, not text",
}


def families() -> list[str]:
    """Return the model types that have a class for causal language modelling."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def tiny_config(model_type: str) -> Any:
    """Return a small config of a family."""
    kind = CONFIG_MAPPING[model_type]
    config = kind(**_joined(_shrunken(kind), SPECIAL.get(model_type, {})))
    if hasattr(config, "is_decoder") and not config.is_encoder_decoder:
        config.is_decoder = True  # as encoders are built to generate
    return config


def save_tiny(model_type: str, folder: Path) -> Any:
    """Save a tiny random model in fp32. Returns the model's class."""
    config = tiny_config(model_type)
    with torch.device("meta"):
        size = AutoModelForCausalLM.from_config(config).num_parameters()
    assert size < LARGEST, f"{size:,} parameters: the shrinker misses a field"
    torch.manual_seed(7)
    model: Any = AutoModelForCausalLM.from_config(tiny_config(model_type), dtype=torch.float32)
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None:
            torch.nn.init.normal_(module.weight.data[module.padding_idx], std=0.02)  # no family ships zeros there
    model.save_pretrained(folder)
    AutoConfig.from_pretrained(folder)
    return type(model)


def _shrunken(kind: Any) -> dict[str, Any]:
    fields = {field.name: field.default for field in dataclasses.fields(kind)}
    found: dict[str, Any] = {
        name: min(size, default) if isinstance(default, int) and name not in ("vocab_size",) else size
        for name, size in _SIZES.items()
        if isinstance(default := fields.get(name), int) and not isinstance(default, bool) and default > 0
    }
    found |= {name: value for name, value in _IDS.items() if name in fields}
    if "qk_rope_head_dim" in found and "head_dim" in found:
        found["head_dim"] = found["qk_rope_head_dim"]  # of latent attention: what rope turns
    if "kv_lora_rank" in fields and "num_key_value_heads" in found:
        found["num_key_value_heads"] = found["num_attention_heads"]
    for name, inner in (getattr(kind, "sub_configs", None) or {}).items():
        known = getattr(getattr(kind, "sub_configs_defaults", {}).get(name), "model_type", None)
        if known:
            found[name] = {"model_type": known, **_shrunken(CONFIG_MAPPING[known])}
        elif dataclasses.is_dataclass(inner):
            found[name] = _shrunken(inner)
    return found


def _joined(small: dict[str, Any], special: dict[str, Any]) -> dict[str, Any]:
    nested = {name: _joined(small.get(name, {}), value) for name, value in special.items() if isinstance(value, dict)}
    return small | special | nested
