"""What the configs of tiny mixtures of experts say, for the exact models."""

from typing import Any

VOCABULARY = 320
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "num_experts_per_tok": 2,
    "bos_token_id": 317,
    "eos_token_id": 318,
    "pad_token_id": 316,
}
_HEAD = {**_SHAPE, "head_dim": 16}
_SOME: dict[str, Any] = {"num_experts": 4, "moe_intermediate_size": 32}
_ROUTED: dict[str, Any] = {
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}
_LATENT: dict[str, Any] = {
    "num_key_value_heads": 4,
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
}
_LINEAR: dict[str, Any] = {
    "num_hidden_layers": 4,
    "head_dim": 32,
    "shared_expert_intermediate_size": 48,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "layer_types": [*["linear_attention"] * 3, "full_attention"],
}
_GRANITE: dict[str, Any] = {
    "num_local_experts": 4,
    "attention_multiplier": 0.25,
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.5,
    "logits_scaling": 2.0,
}
_INSIDE: dict[str, Any] = {
    "shared_intermediate_size": 96,
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_n_groups": 2,
    "mamba_d_state": 16,
    "mamba_expand": 2,
    "mamba_chunk_size": 8,
}

EXACT_MIXTURES: dict[str, dict[str, Any]] = {
    "qwen2_moe": {**_SHAPE, **_SOME, "shared_expert_intermediate_size": 64},
    "qwen3_moe": {**_HEAD, **_SOME, "norm_topk_prob": True},
    "mixtral": {**_SHAPE, "num_local_experts": 4, "sliding_window": None},
    "olmoe": {**_SHAPE, "num_experts": 4, "num_key_value_heads": 4},
    "phimoe": {
        **_SHAPE,
        "num_local_experts": 4,
        "original_max_position_embeddings": 256,
        "sliding_window": None,
        "attention_bias": True,
        "lm_head_bias": True,
    },
    "gpt_oss": {**_HEAD, "num_local_experts": 4, "sliding_window": 64},
    "deepseek_v2": {**_SHAPE, **_LATENT, **_ROUTED, "topk_method": "greedy", "scoring_func": "softmax"},
    "deepseek_v3": {**_SHAPE, **_LATENT, **_ROUTED, "scoring_func": "sigmoid"},
    "granitemoe": {**_SHAPE, **_GRANITE},
    "granitemoeshared": {**_SHAPE, **_GRANITE, "shared_intermediate_size": 96},
    "granitemoehybrid+experts": {**_SHAPE, **_GRANITE, **_INSIDE, "layer_types": ["mamba", "attention"]},
    "granitemoehybrid+attention+experts": {
        **_SHAPE,
        **_GRANITE,
        **_INSIDE,
        "layer_types": ["attention"] * 2,
        "position_embedding_type": "rope",
    },
    "qwen3_next": {**_HEAD, **_SOME, **_LINEAR},
    "qwen3_5_moe_text": {**_HEAD, **_SOME, **_LINEAR},
    "ernie4_5_moe": {
        **_HEAD,
        "intermediate_size": 128,  # as llama.cpp counts it: the width of what all tokens share, for each key's head
        "moe_num_experts": 4,
        "moe_intermediate_size": 32,
        "moe_k": 2,
        "moe_num_shared_experts": 2,
    },
    "glm4_moe": {**_HEAD, **_ROUTED, "num_nextn_predict_layers": 0},
    "glm4_moe_lite": {**_SHAPE, **_LATENT, **_ROUTED, "scoring_func": "sigmoid"},
    "lfm2_moe": {**_SHAPE, **_SOME, "num_dense_layers": 1, "layer_types": ["conv", "full_attention"]},
    "hunyuan_v1_moe": {**_HEAD, "num_experts": 4, "moe_topk": 2},
    "deepseek_v3+yarn": {
        **_SHAPE,
        **_LATENT,
        **_ROUTED,
        "scoring_func": "sigmoid",
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "original_max_position_embeddings": 64,
        },
    },
    "dots1": {**_HEAD, **_ROUTED, "num_key_value_heads": 4, "scoring_func": "sigmoid"},
    "afmoe": {
        **_HEAD,
        **_SOME,
        "num_shared_experts": 1,
        "num_dense_layers": 1,
        "sliding_window": 64,
        "mup_enabled": True,
    },
}
# What the families' published configs say and transformers' classes do not; the converter goes by it.
PUBLISHED_MIXTURES: dict[str, dict[str, Any]] = {
    "phimoe": {"architectures": ["PhiMoEForCausalLM"]},
    "afmoe": {"route_norm": True, "score_func": "sigmoid"},
    "granitemoehybrid+experts": {"layer_types": ["mamba", "attention"]},
    "granitemoehybrid+attention+experts": {"layer_types": ["attention"] * 2},
    "hunyuan_v1_moe": {
        "sep_token_id": None,
        "num_shared_expert": [1, 1],
        "moe_topk": [2, 2],
        "moe_intermediate_size": [96, 96],
    },
}
